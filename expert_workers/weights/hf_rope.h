// What config.json says of RoPE.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_ROPE_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_ROPE_H_

#include "base/status.h"
#include "expert_workers/families/family.h"
#include "expert_workers/weights/json.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::weights {

// Fills the rope_* fields; max_context is known.
//   INVALID_ARGUMENT  a number is missing or of another type
//   UNIMPLEMENTED     a scaling other than linear, llama3, yarn
absl::Status ReadHfRope(const Json& config, const families::Family& family,
                        ModelHyperparameters* model);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_ROPE_H_
