#include "expert_workers/engine/families/language_model.h"

#include <string>

#include "expert_workers/engine/families/families.h"

namespace conclave::engine {

absl::StatusOr<std::unique_ptr<LanguageModel>> LanguageModel::Create(
    const weights::ModelLease& lease, const kernels::Ops& ops) {
  const weights::ModelHyperparameters& model =
      lease.manifest().spec.hyperparameters;
  std::unique_ptr<Decoder> decoder;
  if (model.architecture == "llama") decoder = MakeLlama(model, ops);
  if (model.architecture == "qwen2") decoder = MakeQwen2(model, ops);
  if (decoder == nullptr) {
    return Unimplemented(
        "architecture \"{}\" is not run as a language model; llama and qwen2 "
        "are",
        model.architecture);
  }
  RETURN_IF_ERROR(decoder->Load(lease));
  return std::unique_ptr<LanguageModel>(std::move(decoder));
}

}  // namespace conclave::engine
