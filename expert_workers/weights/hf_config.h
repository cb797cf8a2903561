// config.json of a Hugging Face folder as hyperparameters.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_CONFIG_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_CONFIG_H_

#include "base/status.h"
#include "expert_workers/families/family.h"
#include "expert_workers/weights/json.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::weights {

// The family that `architectures` names; UNIMPLEMENTED lists what there is.
absl::StatusOr<families::NamedFamily> FamilyOfConfig(const Json& config);

//   INVALID_ARGUMENT  a number is missing or out of range
//   UNIMPLEMENTED     another activation, RoPE scaling or attention than the
//                     family's own
absl::StatusOr<ModelHyperparameters> ReadHfConfig(
    const Json& config, const families::NamedFamily& named);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_CONFIG_H_
