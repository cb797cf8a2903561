#include "expert_workers/weights/gguf_config.h"

#include <cmath>
#include <optional>

#include "expert_workers/weights/hyperparameters.h"

namespace conclave::weights {
namespace {

// Reads "<architecture>.<key>".
class Keys {
 public:
  Keys(const GgufFile& file, std::string_view architecture)
      : file_(file), prefix_(fmt::format("{}.", architecture)) {}

  bool Has(std::string_view key) const {
    return file_.metadata.contains(Name(key));
  }
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
  // A setting that would change the computation unless it says `usual`.
  absl::Status Expect(std::string_view key, float usual) const {
    ASSIGN_OR_RETURN(const float value, Float(key, usual));
    if (value == usual) return absl::OkStatus();
    return Unimplemented("{} is {}; only {} is supported", Name(key), value,
                         usual);
  }

 private:
  std::string Name(std::string_view key) const {
    return fmt::format("{}{}", prefix_, key);
  }
  const GgufFile& file_;
  const std::string prefix_;
};

absl::Status ReadYarn(const Keys& keys, ModelHyperparameters* model) {
  ASSIGN_OR_RETURN(model->rope_beta_fast,
                   keys.Float("rope.scaling.yarn_beta_fast", 32.0f));
  ASSIGN_OR_RETURN(model->rope_beta_slow,
                   keys.Float("rope.scaling.yarn_beta_slow", 1.0f));
  RETURN_IF_ERROR(keys.Expect("rope.scaling.yarn_ext_factor", 1.0f));
  RETURN_IF_ERROR(keys.Expect("rope.scaling.yarn_attn_factor", 1.0f));
  RETURN_IF_ERROR(keys.Expect("rope.scaling.yarn_log_multiplier", 0.0f));
  if (keys.Has("rope.scaling.attn_factor") && model->rope_factor > 0) {
    // A factor beside YaRN's own.
    ASSIGN_OR_RETURN(const float extra, keys.Float("rope.scaling.attn_factor"));
    model->rope_magnitude =
        extra * (0.1f * std::log(model->rope_factor) + 1.0f);
    if (!(model->rope_magnitude > 0)) {
      return InvalidArgument("rope.scaling.attn_factor is {}", extra);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadRope(const Keys& keys, const families::Family& family,
                      ModelHyperparameters* model) {
  ASSIGN_OR_RETURN(model->rope_theta,
                   keys.Float("rope.freq_base", family.rope_theta));
  ASSIGN_OR_RETURN(model->rope_local_theta,
                   keys.Float("rope.freq_base_swa", family.rope_local_theta));
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
  ASSIGN_OR_RETURN(
      model->rope_original_context,
      keys.Int("rope.scaling.original_context_length", model->max_context));
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
        scaling.substr(0, 64));
  }
  return scaling == "yarn" ? ReadYarn(keys, model) : absl::OkStatus();
}

absl::Status ReadWindows(const Keys& keys, const families::Family& family,
                         ModelHyperparameters* model) {
  using families::Windows;
  const bool present = keys.Has("attention.sliding_window");
  if (family.gguf_windows == Windows::kNone ||
      (family.gguf_windows == Windows::kEveryLayer && !present)) {
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const int64_t window, keys.Int("attention.sliding_window"));
  ASSIGN_OR_RETURN(const int64_t every,
                   keys.Int("attention.sliding_window_pattern",
                            family.full_attention_every));
  return SetWindows(family.gguf_windows, window, 0, every, model);
}

absl::Status ReadHeads(const Keys& keys, ModelHyperparameters* model) {
  ASSIGN_OR_RETURN(model->num_heads, keys.Int("attention.head_count"));
  ASSIGN_OR_RETURN(model->num_kv_heads,
                   keys.Int("attention.head_count_kv", model->num_heads));
  if (model->num_heads < 1) {
    return InvalidArgument("attention.head_count is {}", model->num_heads);
  }
  ASSIGN_OR_RETURN(
      model->head_dim,
      keys.Int("attention.key_length", model->hidden_size / model->num_heads));
  ASSIGN_OR_RETURN(const int64_t value_dim,
                   keys.Int("attention.value_length", model->head_dim));
  if (value_dim != model->head_dim) {
    return Unimplemented(
        "keys have {} values a head, values {}; only equal "
        "lengths are supported",
        model->head_dim, value_dim);
  }
  return absl::OkStatus();
}

absl::Status ReadExperts(const Keys& keys, const families::Family& family,
                         ModelHyperparameters* model) {
  MoeHyperparameters& moe = model->moe;
  ASSIGN_OR_RETURN(moe.num_experts, keys.Int("expert_count"));
  ASSIGN_OR_RETURN(moe.experts_per_token, keys.Int("expert_used_count"));
  ASSIGN_OR_RETURN(moe.intermediate_size, keys.Int("expert_feed_forward_length",
                                                   model->intermediate_size));
  ASSIGN_OR_RETURN(moe.shared_intermediate_size,
                   keys.Int("expert_shared_feed_forward_length", 0));
  moe.renormalize = family.renormalizes;
  RETURN_IF_ERROR(keys.Expect("expert_weights_scale", 0.0f));
  // Layers that are not mixtures, and gates that this family does not have.
  RETURN_IF_ERROR(keys.Expect("leading_dense_block_count", 0.0f));
  RETURN_IF_ERROR(keys.Expect("interleave_moe_layer_step", 1.0f));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelHyperparameters> ReadGgufConfig(
    const GgufFile& file, const families::Family& family, int64_t vocab_size) {
  const Keys keys(file, family.gguf_architecture.empty()
                            ? family.architecture
                            : family.gguf_architecture);
  ModelHyperparameters model;
  model.architecture = family.architecture;
  model.vocab_size = vocab_size;
  RETURN_IF_ERROR(keys.Expect("attn_logit_softcapping", 0.0f));
  RETURN_IF_ERROR(keys.Expect("final_logit_softcapping", 0.0f));
  ASSIGN_OR_RETURN(model.num_layers, keys.Int("block_count"));
  ASSIGN_OR_RETURN(model.hidden_size, keys.Int("embedding_length"));
  ASSIGN_OR_RETURN(model.intermediate_size, keys.Int("feed_forward_length"));
  if (family.list_expert != nullptr) {
    RETURN_IF_ERROR(ReadExperts(keys, family, &model));
  }
  RETURN_IF_ERROR(ReadHeads(keys, &model));
  ASSIGN_OR_RETURN(model.max_context, keys.Int("context_length"));
  ASSIGN_OR_RETURN(model.norm_eps,
                   keys.Float("attention.layer_norm_rms_epsilon"));
  RETURN_IF_ERROR(ReadRope(keys, family, &model));
  RETURN_IF_ERROR(ReadWindows(keys, family, &model));
  ASSIGN_OR_RETURN(
      model.attention_scale,
      keys.Float("attention.scale", family.gguf_attention_scale != nullptr
                                        ? family.gguf_attention_scale(model)
                                        : 0.0f));
  RETURN_IF_ERROR(CheckHyperparameters(family, model));
  return model;
}

}  // namespace conclave::weights
