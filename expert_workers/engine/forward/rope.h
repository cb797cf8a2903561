// The rotation frequencies of a model, with its context scaling applied.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_ROPE_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_ROPE_H_

#include <span>

#include "base/status.h"
#include "expert_workers/weights/model_spec.h"
#include "kernels/ops.h"

namespace conclave::engine {

// rope_scaling "", "linear", "llama3" and "yarn", as transformers computes
// them. `factors` [head_dim / 2] (GGUF's rope_freqs.weight) divide the
// frequencies; they are Llama 3's scaling worked out, and take its place. May
// be empty.
//   INVALID_ARGUMENT  numbers that no model has
//   UNIMPLEMENTED     another scaling
absl::StatusOr<kernels::RopeTable> MakeRopeTable(
    const weights::ModelHyperparameters& model, std::span<const float> factors);

// That of layers with a window: rope_local_theta, unscaled. Empty where the
// model has no such base.
absl::StatusOr<kernels::RopeTable> MakeLocalRopeTable(
    const weights::ModelHyperparameters& model);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_ROPE_H_
