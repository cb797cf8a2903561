// The limits that benches give the engine's speed as a share of: what the
// machine reads and multiplies per second, and what a token needs of both.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_LIMITS_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_LIMITS_H_

#include <cstdint>

#include "expert_workers/engine/compute.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::engine {

// Bytes per second that all threads of `compute` read from memory together.
double ReadBandwidth(Compute* compute);

// Operations per second that they do with 8-bit integers in registers
// (kernels/peaks.h); the best instruction set's. 0 where none has a peak.
double Int8Rate(Compute* compute);

// Bytes of weights that generating one token reads, and how many weights it is
// multiplied with: everything but the embedding, unless that is the head too,
// and of a mixture's experts as many as a token chooses.
int64_t TokenBytes(const weights::ModelManifest& manifest);
int64_t TokenWeights(const weights::ModelManifest& manifest);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_LIMITS_H_
