// The rotation frequencies of a model, with its context scaling applied.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_ROPE_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_ROPE_H_

#include <span>

#include "base/status.h"
#include "expert_workers/weights/model_spec.h"
#include "kernels/ops.h"

namespace conclave::engine {

// rope_scaling "", "linear", "llama3" and "yarn", as transformers computes
// them. `factors` [head_dim / 2] divides the frequencies further (GGUF's
// rope_freqs.weight, where Llama-3 files keep their scaling); may be empty.
//   UNIMPLEMENTED  another scaling
absl::StatusOr<kernels::RopeTable> MakeRopeTable(
    const weights::ModelHyperparameters& model,
    std::span<const float> factors);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_ROPE_H_
