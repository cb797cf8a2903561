#include "expert_workers/weights/hf_config.h"

#include <optional>

namespace conclave::weights {
namespace {

absl::StatusOr<int64_t> Int(const Json& config, std::string_view key,
                            std::optional<int64_t> otherwise = {}) {
  ASSIGN_OR_RETURN(const auto value, IntMember(config, key));
  if (value) return *value;
  if (otherwise) return *otherwise;
  return InvalidArgument("\"{}\" is missing", key);
}

absl::StatusOr<float> Number(const Json& config, std::string_view key,
                             double otherwise) {
  ASSIGN_OR_RETURN(const auto value, NumberMember(config, key));
  return static_cast<float>(value.value_or(otherwise));
}

// Settings that would change the computation are refused unless they say what
// the family does anyway.
absl::Status Expect(const Json& config, std::string_view key,
                    std::string_view expected) {
  ASSIGN_OR_RETURN(const auto value, TextMember(config, key));
  if (!value || *value == expected) return absl::OkStatus();
  return Unimplemented("\"{}\" is \"{}\"; only \"{}\" is supported", key,
                       value->substr(0, 64), expected);
}

// rope_theta and the scaling stand in rope_parameters (transformers 5), or at
// the top and in rope_scaling (before).
absl::Status ReadRope(const Json& config, ModelHyperparameters* model) {
  const Json empty = Json::object();
  const Json* scaling = Member(config, "rope_parameters");
  if (scaling == nullptr) scaling = Member(config, "rope_scaling");
  if (scaling == nullptr) scaling = &empty;
  ASSIGN_OR_RETURN(const float theta, Number(config, "rope_theta", 10000.0));
  ASSIGN_OR_RETURN(
      model->rope_theta,
      Number(*scaling, "rope_theta", static_cast<double>(theta)));
  ASSIGN_OR_RETURN(auto type, TextMember(*scaling, "rope_type"));
  if (!type) {
    ASSIGN_OR_RETURN(type, TextMember(*scaling, "type"));
  }
  if (!type || *type == "default") return absl::OkStatus();
  if (*type != "linear" && *type != "llama3" && *type != "yarn") {
    return Unimplemented(
        "RoPE scaling \"{}\"; supported are default, linear, llama3, yarn",
        type->substr(0, 64));
  }
  model->rope_scaling = *type;
  ASSIGN_OR_RETURN(model->rope_factor, Number(*scaling, "factor", 1.0));
  ASSIGN_OR_RETURN(model->rope_low_freq_factor,
                   Number(*scaling, "low_freq_factor", 1.0));
  ASSIGN_OR_RETURN(model->rope_high_freq_factor,
                   Number(*scaling, "high_freq_factor", 4.0));
  ASSIGN_OR_RETURN(model->rope_original_context,
                   Int(*scaling, "original_max_position_embeddings", 0));
  return absl::OkStatus();
}

absl::Status ReadDecoder(const Json& config, ModelHyperparameters* model) {
  RETURN_IF_ERROR(Expect(config, "hidden_act", "silu"));
  ASSIGN_OR_RETURN(const auto window,
                   BoolMember(config, "use_sliding_window"));
  if (window.value_or(false)) {
    return Unimplemented("\"use_sliding_window\" is true; only full attention "
                         "is supported");
  }
  ASSIGN_OR_RETURN(model->norm_eps, Number(config, "rms_norm_eps", 1e-6));
  ASSIGN_OR_RETURN(const auto tied, BoolMember(config, "tie_word_embeddings"));
  model->tied_embeddings = tied.value_or(false);
  return ReadRope(config, model);
}

absl::Status ReadEncoder(const Json& config, ModelHyperparameters* model) {
  RETURN_IF_ERROR(Expect(config, "hidden_act", "gelu"));
  RETURN_IF_ERROR(Expect(config, "position_embedding_type", "absolute"));
  ASSIGN_OR_RETURN(model->norm_eps, Number(config, "layer_norm_eps", 1e-12));
  model->tied_embeddings = true;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<const Family*> FamilyOfConfig(const Json& config) {
  const Json* names = Member(config, "architectures");
  if (names == nullptr || !names->is_array() || names->size() != 1 ||
      !names->front().is_string()) {
    return InvalidArgument("\"architectures\" is not a list of one name");
  }
  const auto name = names->front().get<std::string>();
  if (const Family* family = FindHuggingFaceFamily(name)) return family;
  return Unimplemented("architecture \"{}\" is not supported; folders may "
                       "hold {}", name.substr(0, 64),
                       HuggingFaceArchitectures());
}

absl::StatusOr<ModelHyperparameters> ReadHfConfig(const Json& config,
                                                  const Family& family) {
  ModelHyperparameters model;
  model.architecture = family.architecture;
  ASSIGN_OR_RETURN(model.num_layers, Int(config, "num_hidden_layers"));
  ASSIGN_OR_RETURN(model.hidden_size, Int(config, "hidden_size"));
  ASSIGN_OR_RETURN(model.intermediate_size, Int(config, "intermediate_size"));
  ASSIGN_OR_RETURN(model.num_heads, Int(config, "num_attention_heads"));
  if (model.num_heads < 1) {
    return InvalidArgument("\"num_attention_heads\" is {}", model.num_heads);
  }
  ASSIGN_OR_RETURN(model.num_kv_heads,
                   Int(config, "num_key_value_heads", model.num_heads));
  ASSIGN_OR_RETURN(
      model.head_dim,
      Int(config, "head_dim", model.hidden_size / model.num_heads));
  ASSIGN_OR_RETURN(model.vocab_size, Int(config, "vocab_size"));
  ASSIGN_OR_RETURN(model.max_context, Int(config, "max_position_embeddings"));
  const bool encoder = family.head.empty();
  RETURN_IF_ERROR(encoder ? ReadEncoder(config, &model)
                          : ReadDecoder(config, &model));
  RETURN_IF_ERROR(CheckHyperparameters(model));
  return model;
}

}  // namespace conclave::weights
