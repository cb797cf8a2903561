#include "expert_workers/engine/forward/language_model.h"

#include "expert_workers/engine/forward/decoder.h"
#include "expert_workers/families/family.h"

namespace conclave::engine {

absl::StatusOr<std::unique_ptr<LanguageModel>> LanguageModel::Create(
    const weights::ModelLease& lease, const kernels::Ops& ops) {
  const std::string& architecture =
      lease.manifest().spec.hyperparameters.architecture;
  const families::Family* family = families::FindFamily(architecture);
  if (family == nullptr || family->new_layer == nullptr) {
    return Unimplemented(
        "architecture \"{}\" is not run as a language model; {} are",
        architecture, families::DecoderArchitectures());
  }
  return Decoder::Create(*family, lease, ops);
}

}  // namespace conclave::engine
