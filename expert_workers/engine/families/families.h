// The families there are, one maker each.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_FAMILIES_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_FAMILIES_H_

#include <memory>

#include "expert_workers/engine/families/decoder.h"

namespace conclave::engine {

std::unique_ptr<Decoder> MakeLlama(const weights::ModelHyperparameters& model,
                                   const kernels::Ops& ops);
std::unique_ptr<Decoder> MakeQwen2(const weights::ModelHyperparameters& model,
                                   const kernels::Ops& ops);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_FAMILIES_H_
