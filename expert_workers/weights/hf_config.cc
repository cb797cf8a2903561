#include "expert_workers/weights/hf_config.h"

#include <cmath>
#include <optional>

#include "expert_workers/weights/hf_rope.h"
#include "expert_workers/weights/hyperparameters.h"

namespace conclave::weights {
namespace {

using families::Windows;

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

absl::Status ExpectNothing(const Json& config, std::string_view key) {
  const Json* value = Member(config, key);
  if (value == nullptr || *value == Json(false)) return absl::OkStatus();
  return Unimplemented("\"{}\" is set; it is not supported", key);
}

// "layer_types": each layer's kind by name.
absl::Status ReadLayerTypes(const Json& types, int64_t window,
                            ModelHyperparameters* model) {
  if (!types.is_array() ||
      types.size() != static_cast<size_t>(model->num_layers)) {
    return InvalidArgument("\"layer_types\" is not a list of {} names",
                           model->num_layers);
  }
  // The range of the window.
  RETURN_IF_ERROR(SetWindows(Windows::kEveryLayer, window, 0, 0, model));
  for (size_t i = 0; i < types.size(); ++i) {
    const Json& type = types[i];
    if (type == "full_attention") {
      model->layer_windows[i] = 0;
    } else if (type != "sliding_attention") {
      return Unimplemented(
          "\"layer_types\"[{}] is another kind than full_attention and "
          "sliding_attention",
          i);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadWindows(const Json& config, const families::NamedFamily& named,
                         ModelHyperparameters* model) {
  const Windows windows = named.name->windows;
  if (windows == Windows::kNone) return absl::OkStatus();
  if (windows == Windows::kLateLayers) {
    ASSIGN_OR_RETURN(const auto use, BoolMember(config, "use_sliding_window"));
    if (!use.value_or(false)) return absl::OkStatus();
  }
  // null: no window; absent: the class's own.
  if (config.contains("sliding_window") &&
      Member(config, "sliding_window") == nullptr) {
    if (windows != Windows::kPattern) return absl::OkStatus();
    return Unimplemented("\"sliding_window\" is null; the {} family has one",
                         named.family->architecture);
  }
  if (!config.contains("sliding_window") && named.name->default_window == 0 &&
      windows == Windows::kEveryLayer) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const int64_t window,
                   Int(config, "sliding_window", named.name->default_window));
  const Json* types = Member(config, "layer_types");
  if (types != nullptr && windows != Windows::kEveryLayer) {
    return ReadLayerTypes(*types, window, model);
  }
  ASSIGN_OR_RETURN(const int64_t first, Int(config, "max_window_layers", 28));
  ASSIGN_OR_RETURN(const int64_t every,
                   Int(config, "sliding_window_pattern",
                       named.family->full_attention_every));
  return SetWindows(windows, window, first, every, model);
}

// An integer that files write under one of two names.
absl::StatusOr<int64_t> IntOf(const Json& config, std::string_view key,
                              std::string_view other) {
  return config.contains(key) ? Int(config, key) : Int(config, other);
}

absl::Status ReadExperts(const Json& config, const families::Family& family,
                         ModelHyperparameters* model) {
  MoeHyperparameters& moe = model->moe;
  ASSIGN_OR_RETURN(moe.num_experts,
                   IntOf(config, "num_experts", "num_local_experts"));
  ASSIGN_OR_RETURN(moe.experts_per_token, Int(config, "num_experts_per_tok"));
  ASSIGN_OR_RETURN(moe.intermediate_size, Int(config, "moe_intermediate_size",
                                              model->intermediate_size));
  ASSIGN_OR_RETURN(moe.shared_intermediate_size,
                   Int(config, "shared_expert_intermediate_size", 0));
  moe.renormalize = family.renormalizes;
  if (family.hf_says_renormalize) {
    ASSIGN_OR_RETURN(const auto says, BoolMember(config, "norm_topk_prob"));
    moe.renormalize = says.value_or(false);
  }
  // Layers that are not mixtures are not supported.
  ASSIGN_OR_RETURN(const int64_t step, Int(config, "decoder_sparse_step", 1));
  const Json* dense = Member(config, "mlp_only_layers");
  if (step != 1 || (dense != nullptr && !dense->empty())) {
    return Unimplemented(
        "some layers are not mixtures (\"decoder_sparse_step\", "
        "\"mlp_only_layers\"); every layer has to be one");
  }
  return ExpectNothing(config, "clip_qkv");
}

absl::Status ReadDecoder(const Json& config, const families::NamedFamily& named,
                         ModelHyperparameters* model) {
  const families::Family& family = *named.family;
  RETURN_IF_ERROR(Expect(config, "hidden_act", family.activation));
  RETURN_IF_ERROR(Expect(config, "hidden_activation", family.activation));
  RETURN_IF_ERROR(ExpectNothing(config, "attn_logit_softcapping"));
  RETURN_IF_ERROR(ExpectNothing(config, "final_logit_softcapping"));
  RETURN_IF_ERROR(ExpectNothing(config, "use_bidirectional_attention"));
  ASSIGN_OR_RETURN(model->norm_eps, Number(config, "rms_norm_eps", 1e-6));
  ASSIGN_OR_RETURN(const auto tied, BoolMember(config, "tie_word_embeddings"));
  model->tied_embeddings = tied.value_or(family.tied_embeddings);
  if (family.query_scalar > 0) {
    ASSIGN_OR_RETURN(const float scalar,
                     Number(config, "query_pre_attn_scalar",
                            static_cast<double>(family.query_scalar)));
    if (!(scalar > 0)) {
      return InvalidArgument("\"query_pre_attn_scalar\" is {}", scalar);
    }
    model->attention_scale = 1.0f / std::sqrt(scalar);
  }
  if (family.list_expert != nullptr) {
    RETURN_IF_ERROR(ReadExperts(config, family, model));
  }
  RETURN_IF_ERROR(ReadHfRope(config, family, model));
  return ReadWindows(config, named, model);
}

absl::Status ReadEncoder(const Json& config, const families::Family& family,
                         ModelHyperparameters* model) {
  RETURN_IF_ERROR(Expect(config, "hidden_act", family.activation));
  RETURN_IF_ERROR(Expect(config, "position_embedding_type", "absolute"));
  ASSIGN_OR_RETURN(model->norm_eps, Number(config, "layer_norm_eps", 1e-12));
  model->tied_embeddings = true;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<families::NamedFamily> FamilyOfConfig(const Json& config) {
  const Json* names = Member(config, "architectures");
  if (names == nullptr || !names->is_array() || names->size() != 1 ||
      !names->front().is_string()) {
    return InvalidArgument("\"architectures\" is not a list of one name");
  }
  const auto name = names->front().get<std::string>();
  const families::NamedFamily named = families::FindHuggingFaceFamily(name);
  if (named.family != nullptr) return named;
  return Unimplemented(
      "architecture \"{}\" is not supported; folders may "
      "hold {}",
      name.substr(0, 64), families::HuggingFaceArchitectures());
}

absl::StatusOr<ModelHyperparameters> ReadHfConfig(
    const Json& config, const families::NamedFamily& named) {
  const families::Family& family = *named.family;
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
      Int(config, "head_dim",
          family.head_dim > 0 ? family.head_dim
                              : model.hidden_size / model.num_heads));
  ASSIGN_OR_RETURN(model.vocab_size, Int(config, "vocab_size"));
  ASSIGN_OR_RETURN(model.max_context, Int(config, "max_position_embeddings"));
  RETURN_IF_ERROR(family.new_layer == nullptr
                      ? ReadEncoder(config, family, &model)
                      : ReadDecoder(config, named, &model));
  RETURN_IF_ERROR(CheckHyperparameters(family, model));
  return model;
}

}  // namespace conclave::weights
