#include "expert_workers/weights/hyperparameters.h"

#include <cmath>

#include "kernels/limits.h"

namespace conclave::weights {
namespace {

constexpr int64_t kMaxContext = 1 << 30;

absl::Status CheckRange(std::string_view what, int64_t value, int64_t low,
                        int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return InvalidArgument("{} is {}; it must be {}..{}", what, value, low, high);
}

absl::Status CheckPositive(std::string_view what, float value) {
  if (std::isfinite(value) && value > 0) return absl::OkStatus();
  return InvalidArgument("{} is {}; it must be a positive number", what, value);
}

// 0 stands for "the usual".
absl::Status CheckNotNegative(std::string_view what, float value) {
  if (std::isfinite(value) && value >= 0) return absl::OkStatus();
  return InvalidArgument("{} is {}; it must be a positive number", what, value);
}

absl::Status CheckRope(const ModelHyperparameters& model) {
  RETURN_IF_ERROR(CheckRange("rope_original_context",
                             model.rope_original_context, 0, kMaxContext));
  RETURN_IF_ERROR(CheckPositive("rope_theta", model.rope_theta));
  RETURN_IF_ERROR(CheckNotNegative("rope_local_theta", model.rope_local_theta));
  RETURN_IF_ERROR(CheckPositive("rope_factor", model.rope_factor));
  RETURN_IF_ERROR(
      CheckPositive("rope_low_freq_factor", model.rope_low_freq_factor));
  RETURN_IF_ERROR(
      CheckPositive("rope_high_freq_factor", model.rope_high_freq_factor));
  RETURN_IF_ERROR(CheckPositive("rope_beta_fast", model.rope_beta_fast));
  RETURN_IF_ERROR(CheckPositive("rope_beta_slow", model.rope_beta_slow));
  RETURN_IF_ERROR(CheckNotNegative("rope_magnitude", model.rope_magnitude));
  const bool llama3 = model.rope_scaling == "llama3";
  const bool yarn = model.rope_scaling == "yarn";
  if (!model.rope_scaling.empty() && model.rope_factor < 1) {
    return InvalidArgument(
        "rope_factor is {}; a scaling stretches by 1 or "
        "more",
        model.rope_factor);
  }
  if ((llama3 || yarn) && model.rope_original_context < 1) {
    return InvalidArgument("rope scaling {} has no original context length",
                           model.rope_scaling);
  }
  if (llama3 && model.rope_high_freq_factor <= model.rope_low_freq_factor) {
    return InvalidArgument(
        "rope_high_freq_factor is {}; it must be above rope_low_freq_factor, "
        "{}",
        model.rope_high_freq_factor, model.rope_low_freq_factor);
  }
  if (yarn && model.rope_beta_fast <= model.rope_beta_slow) {
    return InvalidArgument(
        "rope_beta_fast is {}; it must be above "
        "rope_beta_slow, {}",
        model.rope_beta_fast, model.rope_beta_slow);
  }
  // Logarithms of the base are divided by.
  if (model.rope_theta <= 1 ||
      (model.rope_local_theta > 0 && model.rope_local_theta <= 1)) {
    return InvalidArgument(
        "rope_theta is {}, rope_local_theta {}; bases are "
        "above 1",
        model.rope_theta, model.rope_local_theta);
  }
  return absl::OkStatus();
}

// Many more than any model has; everything fits 32 bits.
constexpr int64_t kMaxExperts = 4096;

absl::Status CheckMoe(const families::Family& family,
                      const ModelHyperparameters& model) {
  const MoeHyperparameters& moe = model.moe;
  if (family.list_expert == nullptr) {
    if (moe == MoeHyperparameters{}) return absl::OkStatus();
    return InvalidArgument("the {} family has no experts", family.architecture);
  }
  RETURN_IF_ERROR(CheckRange("num_experts", moe.num_experts, 1, kMaxExperts));
  RETURN_IF_ERROR(CheckRange("experts_per_token", moe.experts_per_token, 1,
                             moe.num_experts));
  RETURN_IF_ERROR(CheckRange("an expert's intermediate_size",
                             moe.intermediate_size, 1, 1 << 20));
  RETURN_IF_ERROR(CheckRange("the shared expert's intermediate_size",
                             moe.shared_intermediate_size, 0, 1 << 20));
  for (const int64_t width :
       {moe.intermediate_size, moe.shared_intermediate_size}) {
    if (width % kernels::kActivationBlock != 0) {
      return Unimplemented("an expert's width {} is not a multiple of {}",
                           width, kernels::kActivationBlock);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SetWindows(families::Windows windows, int64_t window,
                        int64_t first, int64_t every,
                        ModelHyperparameters* model) {
  RETURN_IF_ERROR(CheckRange("num_layers", model->num_layers, 1, 4096));
  if (windows == families::Windows::kNone) return absl::OkStatus();
  RETURN_IF_ERROR(CheckRange("the sliding window", window, 1, kMaxContext));
  const bool late = windows == families::Windows::kLateLayers;
  const bool pattern = windows == families::Windows::kPattern;
  if (late) {
    RETURN_IF_ERROR(
        CheckRange("the first layer with a window", first, 0, 1 << 20));
  }
  if (pattern) {
    RETURN_IF_ERROR(
        CheckRange("the sliding window's pattern", every, 1, 1 << 20));
  }
  for (int64_t i = 0; i < model->num_layers; ++i) {
    const bool full = (late && i < first) || (pattern && (i + 1) % every == 0);
    model->layer_windows.push_back(full ? 0 : window);
  }
  return absl::OkStatus();
}

absl::Status CheckHyperparameters(const families::Family& family,
                                  const ModelHyperparameters& model) {
  RETURN_IF_ERROR(CheckRange("num_layers", model.num_layers, 1, 4096));
  RETURN_IF_ERROR(CheckRange("hidden_size", model.hidden_size, 1, 1 << 20));
  RETURN_IF_ERROR(
      CheckRange("intermediate_size", model.intermediate_size, 1, 1 << 20));
  RETURN_IF_ERROR(CheckRange("num_heads", model.num_heads, 1, 1 << 12));
  RETURN_IF_ERROR(
      CheckRange("num_kv_heads", model.num_kv_heads, 1, model.num_heads));
  RETURN_IF_ERROR(
      CheckRange("head_dim", model.head_dim, 1, kernels::kMaxHeadDim));
  RETURN_IF_ERROR(CheckRange("vocab_size", model.vocab_size, 1, 1 << 24));
  RETURN_IF_ERROR(CheckRange("max_context", model.max_context, 1, kMaxContext));
  if (model.num_heads % model.num_kv_heads != 0) {
    return InvalidArgument("{} heads cannot share {} key-value heads evenly",
                           model.num_heads, model.num_kv_heads);
  }
  if (model.head_dim % 2 != 0) {
    return InvalidArgument("head_dim is {}; it must be even", model.head_dim);
  }
  RETURN_IF_ERROR(CheckPositive("norm_eps", model.norm_eps));
  RETURN_IF_ERROR(CheckNotNegative("attention_scale", model.attention_scale));
  RETURN_IF_ERROR(CheckRope(model));
  RETURN_IF_ERROR(CheckMoe(family, model));
  if (!model.layer_windows.empty() &&
      static_cast<int64_t>(model.layer_windows.size()) != model.num_layers) {
    return InvalidArgument("{} layers, but {} windows", model.num_layers,
                           model.layer_windows.size());
  }
  if (family.new_layer == nullptr) return absl::OkStatus();
  for (const int64_t width : {model.hidden_size, model.intermediate_size,
                              model.num_heads * model.head_dim}) {
    if (width % kernels::kActivationBlock != 0) {
      return Unimplemented("width {} is not a multiple of {}", width,
                           kernels::kActivationBlock);
    }
  }
  return absl::OkStatus();
}

}  // namespace conclave::weights
