#include "expert_workers/weights/import_gguf.h"

#include <cmath>

#include "expert_workers/families/family.h"
#include "expert_workers/weights/family_units.h"
#include "expert_workers/weights/gguf_config.h"
#include "expert_workers/weights/gguf_file.h"
#include "expert_workers/weights/gguf_tokenizer.h"

namespace conclave::weights {
namespace {

std::vector<SourceTensor> TensorsOf(const GgufFile& file) {
  std::vector<SourceTensor> tensors;
  for (const GgufTensor& from : file.tensors) {
    SourceTensor tensor;
    tensor.name = from.name;
    tensor.type = from.type;
    tensor.cols = from.dims[0];
    tensor.rows = 1;
    for (size_t i = 1; i < from.dims.size(); ++i) tensor.rows *= from.dims[i];
    tensor.is_vector = from.dims.size() == 1;
    if (from.dims.size() == 3) tensor.stacked = from.dims[2];
    tensor.offset = from.offset;
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// Llama 3's files carry its RoPE scaling worked out: what each pair's
// frequency is divided by.
absl::Status CheckRopeFactors(const ModelSource& source,
                              const SourceTensor& tensor) {
  if (tensor.type != kernels::QuantType::kF32) {
    return InvalidArgument("{} is not F32", tensor.name);
  }
  std::vector<float> factors(static_cast<size_t>(tensor.cols));
  RETURN_IF_ERROR(ReadRows(source, tensor, 0, 1,
                           std::as_writable_bytes(std::span(factors))));
  for (size_t i = 0; i < factors.size(); ++i) {
    if (std::isfinite(factors[i]) && factors[i] > 0) continue;
    return InvalidArgument("{}[{}] is {}; frequencies are divided by it",
                           tensor.name, i, factors[i]);
  }
  return absl::OkStatus();
}

const SourceTensor* FindTensor(const std::vector<UnitSource>& units,
                               std::string_view name) {
  for (const UnitSource& unit : units) {
    for (const SourceTensor& tensor : unit.tensors) {
      if (tensor.name == name) return &tensor;
    }
  }
  return nullptr;
}

absl::StatusOr<ModelSource> Open(std::shared_ptr<ByteSource> file) {
  ASSIGN_OR_RETURN(const GgufFile gguf, ParseGguf(*file));
  ASSIGN_OR_RETURN(const auto architecture, gguf.Text("general.architecture"));
  if (!architecture) {
    return InvalidArgument("key general.architecture is missing");
  }
  ASSIGN_OR_RETURN(
      const auto experts,
      gguf.Int(fmt::format("{}.expert_count", architecture->substr(0, 64))));
  const bool has_experts = experts.value_or(0) != 0;
  const families::Family* family =
      families::FindGgufFamily(*architecture, has_experts);
  if (family == nullptr) {
    return Unimplemented(
        "architecture \"{}\"{} is not supported; GGUF files may hold {}",
        architecture->substr(0, 64), has_experts ? " with experts" : "",
        families::GgufArchitectures());
  }
  ModelSource source;
  source.name = file->name();
  source.files.push_back(std::move(file));
  ASSIGN_OR_RETURN(source.spec.tokenizer, ReadGgufTokenizer(gguf));
  ASSIGN_OR_RETURN(const auto chat_template,
                   gguf.Text("tokenizer.chat_template"));
  source.spec.chat_template = chat_template.value_or("");
  ModelHyperparameters& model = source.spec.hyperparameters;
  ASSIGN_OR_RETURN(
      model, ReadGgufConfig(
                 gguf, *family,
                 static_cast<int64_t>(source.spec.tokenizer.tokens.size())));
  ASSIGN_OR_RETURN(
      source.units,
      SortIntoUnits(*family, model, SourceFormat::kGguf, TensorsOf(gguf)));
  model.tied_embeddings = FindTensor(source.units, "output.weight") == nullptr;
  if (const auto* factors = FindTensor(source.units, "rope_freqs.weight")) {
    RETURN_IF_ERROR(CheckRopeFactors(source, *factors));
  }
  return source;
}

}  // namespace

absl::StatusOr<ModelSource> OpenGguf(std::shared_ptr<ByteSource> file) {
  const std::string name = file->name();
  absl::StatusOr<ModelSource> source = Open(std::move(file));
  if (source.ok() || Message(source.status()).starts_with(name + ":")) {
    return source;
  }
  return Annotate(source.status(), name);
}

}  // namespace conclave::weights
