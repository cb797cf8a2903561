#include "expert_workers/weights/hf_rope.h"

#include <cmath>

namespace conclave::weights {
namespace {

absl::StatusOr<float> Number(const Json& json, std::string_view key,
                             double otherwise) {
  ASSIGN_OR_RETURN(const auto value, NumberMember(json, key));
  return static_cast<float>(value.value_or(otherwise));
}

absl::StatusOr<std::string> TypeOf(const Json& rope) {
  ASSIGN_OR_RETURN(auto type, TextMember(rope, "rope_type"));
  if (!type) {
    ASSIGN_OR_RETURN(type, TextMember(rope, "type"));
  }
  return type.value_or("default");
}

absl::Status RefusePartial(const Json& json) {
  ASSIGN_OR_RETURN(const float part, Number(json, "partial_rotary_factor", 1));
  if (part == 1.0f) return absl::OkStatus();
  return Unimplemented(
      "\"partial_rotary_factor\" is {}; only whole heads are "
      "supported",
      part);
}

// What sine and cosine are multiplied by; 0: the usual.
absl::StatusOr<float> YarnMagnitude(const Json& rope, float factor) {
  ASSIGN_OR_RETURN(const auto given, NumberMember(rope, "attention_factor"));
  ASSIGN_OR_RETURN(const float over, Number(rope, "mscale", 0));
  ASSIGN_OR_RETURN(const float under, Number(rope, "mscale_all_dim", 0));
  float magnitude = 0.0f;
  if (given) {
    magnitude = static_cast<float>(*given);
  } else if (over != 0.0f && under != 0.0f && factor > 1) {
    const float log = 0.1f * std::log(factor);
    magnitude = (log * over + 1) / (log * under + 1);
  } else {
    return 0.0f;
  }
  if (std::isfinite(magnitude) && magnitude > 0) return magnitude;
  return InvalidArgument("YaRN's attention factor is {}", magnitude);
}

absl::Status ReadYarn(const Json& rope, ModelHyperparameters* model) {
  ASSIGN_OR_RETURN(model->rope_beta_fast, Number(rope, "beta_fast", 32));
  ASSIGN_OR_RETURN(model->rope_beta_slow, Number(rope, "beta_slow", 1));
  ASSIGN_OR_RETURN(const auto truncate, BoolMember(rope, "truncate"));
  if (!truncate.value_or(true)) {
    return Unimplemented(
        "YaRN's \"truncate\" is false; only true is "
        "supported");
  }
  ASSIGN_OR_RETURN(model->rope_magnitude,
                   YarnMagnitude(rope, model->rope_factor));
  return absl::OkStatus();
}

absl::Status ReadScaling(const Json& rope, ModelHyperparameters* model) {
  ASSIGN_OR_RETURN(const std::string type, TypeOf(rope));
  if (type == "default") return absl::OkStatus();
  if (type != "linear" && type != "llama3" && type != "yarn") {
    return Unimplemented(
        "RoPE scaling \"{}\"; supported are default, linear, llama3, yarn",
        type.substr(0, 64));
  }
  model->rope_scaling = type;
  ASSIGN_OR_RETURN(const auto original,
                   IntMember(rope, "original_max_position_embeddings"));
  model->rope_original_context = original.value_or(model->max_context);
  ASSIGN_OR_RETURN(const auto factor, NumberMember(rope, "factor"));
  if (!factor) {
    return InvalidArgument("RoPE scaling {} has no \"factor\"", type);
  }
  model->rope_factor = static_cast<float>(*factor);
  ASSIGN_OR_RETURN(model->rope_low_freq_factor,
                   Number(rope, "low_freq_factor", 1.0));
  ASSIGN_OR_RETURN(model->rope_high_freq_factor,
                   Number(rope, "high_freq_factor", 4.0));
  return type == "yarn" ? ReadYarn(rope, model) : absl::OkStatus();
}

}  // namespace

// rope_theta and the scaling stand in rope_parameters (transformers 5; by kind
// of layer where there are two bases), or at the top and in rope_scaling
// (before).
absl::Status ReadHfRope(const Json& config, const families::Family& family,
                        ModelHyperparameters* model) {
  const Json empty = Json::object();
  const Json* rope = Member(config, "rope_parameters");
  if (rope == nullptr) rope = Member(config, "rope_scaling");
  if (rope == nullptr) rope = &empty;
  const Json* local = Member(*rope, "sliding_attention");
  if (const Json* full = Member(*rope, "full_attention")) rope = full;
  if (local == nullptr) local = &empty;
  RETURN_IF_ERROR(RefusePartial(config));
  RETURN_IF_ERROR(RefusePartial(*rope));
  RETURN_IF_ERROR(RefusePartial(*local));

  ASSIGN_OR_RETURN(
      const float theta,
      Number(config, "rope_theta", static_cast<double>(family.rope_theta)));
  ASSIGN_OR_RETURN(model->rope_theta,
                   Number(*rope, "rope_theta", static_cast<double>(theta)));
  if (family.rope_local_theta > 0) {
    ASSIGN_OR_RETURN(const float local_theta,
                     Number(config, "rope_local_base_freq",
                            static_cast<double>(family.rope_local_theta)));
    ASSIGN_OR_RETURN(
        model->rope_local_theta,
        Number(*local, "rope_theta", static_cast<double>(local_theta)));
  }
  ASSIGN_OR_RETURN(const std::string local_type, TypeOf(*local));
  if (local_type != "default" ||
      (!local->empty() && family.rope_local_theta == 0)) {
    return Unimplemented(
        "layers with a window have a RoPE of their own, "
        "\"{}\"; the {} family's have not",
        local_type.substr(0, 64), family.architecture);
  }
  return ReadScaling(*rope, model);
}

}  // namespace conclave::weights
