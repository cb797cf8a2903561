#include "expert_workers/weights/import_gguf.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <optional>

#include "expert_workers/weights/gguf_file.h"
#include "expert_workers/weights/gguf_tokenizer.h"
#include "expert_workers/weights/model_family.h"
#include "expert_workers/weights/tokenizer_facts.h"

namespace conclave::weights {
namespace {

// Reads "<architecture>.<key>".
class Keys {
 public:
  Keys(const GgufFile& file, std::string_view architecture)
      : file_(file), prefix_(fmt::format("{}.", architecture)) {}

  absl::StatusOr<int64_t> Int(std::string_view key,
                              std::optional<int64_t> otherwise = {}) const {
    ASSIGN_OR_RETURN(const auto value, file_.Int(Name(key)));
    if (value) return *value;
    if (otherwise) return *otherwise;
    return InvalidArgument("key {} is missing", Name(key));
  }
  absl::StatusOr<float> Float(std::string_view key,
                              std::optional<float> otherwise = {}) const {
    ASSIGN_OR_RETURN(const auto value, file_.Float(Name(key)));
    if (value) return static_cast<float>(*value);
    if (otherwise) return *otherwise;
    return InvalidArgument("key {} is missing", Name(key));
  }
  absl::StatusOr<std::string> Text(std::string_view key) const {
    ASSIGN_OR_RETURN(auto value, file_.Text(Name(key)));
    return value.value_or("");
  }

 private:
  std::string Name(std::string_view key) const {
    return fmt::format("{}{}", prefix_, key);
  }
  const GgufFile& file_;
  const std::string prefix_;
};

absl::Status ReadRope(const Keys& keys, ModelHyperparameters* model) {
  ASSIGN_OR_RETURN(model->rope_theta, keys.Float("rope.freq_base", 10000.0f));
  ASSIGN_OR_RETURN(const int64_t rotated,
                   keys.Int("rope.dimension_count", model->head_dim));
  if (rotated != model->head_dim) {
    return Unimplemented(
        "RoPE turns {} of {} values of a head; only whole heads are "
        "supported",
        rotated, model->head_dim);
  }
  ASSIGN_OR_RETURN(const std::string scaling, keys.Text("rope.scaling.type"));
  // Before rope.scaling.type there was only this.
  ASSIGN_OR_RETURN(const float old_linear,
                   keys.Float("rope.scale_linear", 1.0f));
  ASSIGN_OR_RETURN(model->rope_factor,
                   keys.Float("rope.scaling.factor", old_linear));
  ASSIGN_OR_RETURN(model->rope_original_context,
                   keys.Int("rope.scaling.original_context_length", 0));
  if (scaling == "none") {
    model->rope_factor = 1.0f;
  } else if (scaling.empty()) {
    if (model->rope_factor != 1.0f) model->rope_scaling = "linear";
  } else if (scaling == "linear" || scaling == "yarn") {
    model->rope_scaling = scaling;
  } else {
    return Unimplemented(
        "rope.scaling.type is \"{}\"; supported are none, linear, yarn and "
        "Llama 3's",
        scaling);
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelHyperparameters> ReadHyperparameters(
    const GgufFile& file, std::string_view architecture, int64_t vocab_size) {
  const Keys keys(file, architecture);
  ModelHyperparameters model;
  model.architecture = architecture;
  model.vocab_size = vocab_size;
  ASSIGN_OR_RETURN(const int64_t experts, keys.Int("expert_count", 0));
  if (experts != 0) {
    return Unimplemented("{} experts per layer; only dense models are "
                         "supported", experts);
  }
  ASSIGN_OR_RETURN(model.num_layers, keys.Int("block_count"));
  ASSIGN_OR_RETURN(model.hidden_size, keys.Int("embedding_length"));
  ASSIGN_OR_RETURN(model.intermediate_size, keys.Int("feed_forward_length"));
  ASSIGN_OR_RETURN(model.num_heads, keys.Int("attention.head_count"));
  ASSIGN_OR_RETURN(model.num_kv_heads,
                   keys.Int("attention.head_count_kv", model.num_heads));
  if (model.num_heads < 1) {
    return InvalidArgument("attention.head_count is {}", model.num_heads);
  }
  ASSIGN_OR_RETURN(
      model.head_dim,
      keys.Int("attention.key_length", model.hidden_size / model.num_heads));
  ASSIGN_OR_RETURN(const int64_t value_dim,
                   keys.Int("attention.value_length", model.head_dim));
  if (value_dim != model.head_dim) {
    return Unimplemented("keys have {} values a head, values {}; only equal "
                         "lengths are supported", model.head_dim, value_dim);
  }
  ASSIGN_OR_RETURN(model.max_context, keys.Int("context_length"));
  ASSIGN_OR_RETURN(model.norm_eps,
                   keys.Float("attention.layer_norm_rms_epsilon"));
  RETURN_IF_ERROR(ReadRope(keys, &model));
  RETURN_IF_ERROR(CheckHyperparameters(model));
  return model;
}

absl::StatusOr<std::vector<SourceTensor>> ReadTensors(
    const GgufFile& file, const Family& family,
    const ModelHyperparameters& model) {
  std::vector<SourceTensor> tensors;
  for (const GgufTensor& from : file.tensors) {
    SourceTensor tensor;
    tensor.name = from.name;
    tensor.type = from.type;
    tensor.cols = from.dims[0];
    tensor.rows = 1;
    for (size_t i = 1; i < from.dims.size(); ++i) tensor.rows *= from.dims[i];
    tensor.is_vector = from.dims.size() == 1;
    tensor.offset = from.offset;
    const bool roped = from.name.ends_with(".attn_q.weight") ||
                       from.name.ends_with(".attn_k.weight");
    if (family.gguf_interleaves_rope && roped) {
      tensor.interleaved_head_dim = model.head_dim;
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// Llama 3's files carry its RoPE scaling as rope_freqs.weight alone: one
// divisor per pair. The formula's numbers are found from it, and checked, so
// that the engine has one way to compute it.
absl::Status ReadLlama3Factors(const ModelSource& source,
                               const SourceTensor& tensor,
                               ModelHyperparameters* model) {
  if (tensor.type != kernels::QuantType::kF32) {
    return InvalidArgument("rope_freqs.weight is not F32");
  }
  std::vector<float> factors(static_cast<size_t>(tensor.cols));
  RETURN_IF_ERROR(ReadRows(source, tensor, 0, 1,
                           std::as_writable_bytes(std::span(factors))));
  const double factor = factors.back();
  if (!std::isfinite(factor) || factor < 1) {
    return InvalidArgument("rope_freqs.weight ends in {}", factor);
  }
  constexpr double kLow = 1;
  constexpr double kHigh = 4;
  constexpr double kOriginalContext = 8192;
  for (size_t i = 0; i < factors.size(); ++i) {
    const double wavelength =
        2 * std::numbers::pi *
        std::pow(model->rope_theta,
                 2.0 * static_cast<double>(i) /
                     static_cast<double>(model->head_dim));
    double expected = factor;
    if (wavelength < kOriginalContext / kHigh) {
      expected = 1;
    } else if (wavelength <= kOriginalContext / kLow) {
      const double smooth =
          (kOriginalContext / wavelength - kLow) / (kHigh - kLow);
      expected = 1 / ((1 - smooth) / factor + smooth);
    }
    if (!(std::abs(factors[i] - expected) <= 1e-3 * expected)) {
      return Unimplemented(
          "rope_freqs.weight[{}] is {}, but Llama 3's rule gives {}; other "
          "rules are not supported",
          i, factors[i], expected);
    }
  }
  model->rope_scaling = "llama3";
  model->rope_factor = static_cast<float>(factor);
  model->rope_low_freq_factor = static_cast<float>(kLow);
  model->rope_high_freq_factor = static_cast<float>(kHigh);
  model->rope_original_context = static_cast<int64_t>(kOriginalContext);
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
  const Family* family = FindFamily(*architecture);
  if (family == nullptr || !family->in_gguf) {
    return Unimplemented(
        "architecture \"{}\" is not supported; GGUF files may hold {}",
        architecture->substr(0, 64), GgufArchitectures());
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
      model, ReadHyperparameters(
                 gguf, *architecture,
                 static_cast<int64_t>(source.spec.tokenizer.tokens.size())));
  ASSIGN_OR_RETURN(std::vector<SourceTensor> tensors,
                   ReadTensors(gguf, *family, model));
  ASSIGN_OR_RETURN(source.units,
                   SortIntoUnits(*family, model, std::move(tensors)));
  model.tied_embeddings = FindTensor(source.units, "output.weight") == nullptr;
  if (const auto* freqs = FindTensor(source.units, "rope_freqs.weight")) {
    RETURN_IF_ERROR(ReadLlama3Factors(source, *freqs, &model));
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
