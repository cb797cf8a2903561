// A GGUF file's numbers as hyperparameters.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_GGUF_CONFIG_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_GGUF_CONFIG_H_

#include <cstdint>

#include "base/status.h"
#include "expert_workers/families/family.h"
#include "expert_workers/weights/gguf_file.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::weights {

// All but tied_embeddings, which the tensors say.
//   INVALID_ARGUMENT  a number is missing or out of range
//   UNIMPLEMENTED     experts, soft caps, another RoPE than the family's
absl::StatusOr<ModelHyperparameters> ReadGgufConfig(
    const GgufFile& file, const families::Family& family, int64_t vocab_size);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_GGUF_CONFIG_H_
