#include "expert_workers/engine/forward/rope.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace conclave::engine {
namespace {

constexpr double kTwoPi = 2 * std::numbers::pi;

// Llama 3: long wavelengths are stretched, short ones kept, a ramp between.
double Llama3(double inv_freq, const weights::ModelHyperparameters& model) {
  const double factor = static_cast<double>(model.rope_factor);
  const double low = static_cast<double>(model.rope_low_freq_factor);
  const double high = static_cast<double>(model.rope_high_freq_factor);
  const double context = static_cast<double>(model.rope_original_context);
  const double wavelength = kTwoPi / inv_freq;
  if (wavelength < context / high) return inv_freq;
  if (wavelength > context / low) return inv_freq / factor;
  const double smooth = (context / wavelength - low) / (high - low);
  return (1 - smooth) * inv_freq / factor + smooth * inv_freq;
}

// YaRN: dimensions that turn often (beta_fast times) within the original
// context are kept, those that turn seldom (beta_slow) are interpolated.
double YarnKeep(double i, double half_dim,
                const weights::ModelHyperparameters& model) {
  const double context = static_cast<double>(model.rope_original_context);
  const auto dimension = [&](double turns) {
    return half_dim * std::log(context / (turns * kTwoPi)) /
           std::log(static_cast<double>(model.rope_theta));
  };
  const double low = std::max(
      std::floor(dimension(static_cast<double>(model.rope_beta_fast))), 0.0);
  double high =
      std::min(std::ceil(dimension(static_cast<double>(model.rope_beta_slow))),
               2 * half_dim - 1);
  if (low == high) high += 0.001;  // as transformers: no division by zero
  return 1 - std::clamp((i - low) / (high - low), 0.0, 1.0);
}

}  // namespace

absl::StatusOr<kernels::RopeTable> MakeRopeTable(
    const weights::ModelHyperparameters& model,
    std::span<const float> factors) {
  const int64_t half = model.head_dim / 2;
  const bool linear = model.rope_scaling == "linear";
  const bool llama3 = model.rope_scaling == "llama3";
  const bool yarn = model.rope_scaling == "yarn";
  if (!linear && !llama3 && !yarn && !model.rope_scaling.empty()) {
    return Unimplemented(
        "rope scaling \"{}\": linear, llama3 and yarn are known",
        model.rope_scaling);
  }
  if (!factors.empty() && static_cast<int64_t>(factors.size()) != half) {
    return InvalidArgument("rope_freqs.weight has {} values; head_dim / 2 = {}",
                           factors.size(), half);
  }
  if (!(model.rope_theta > 1)) {
    return InvalidArgument("rope theta is {}", model.rope_theta);
  }
  if (!model.rope_scaling.empty() && !(model.rope_factor >= 1)) {
    return InvalidArgument("rope factor is {}", model.rope_factor);
  }
  if ((llama3 || yarn) && model.rope_original_context < 1) {
    return InvalidArgument("rope scaling {} without its original context",
                           model.rope_scaling);
  }
  if (llama3 && !(model.rope_low_freq_factor > 0 &&
                  model.rope_high_freq_factor > model.rope_low_freq_factor)) {
    return InvalidArgument("rope frequency factors are {} and {}",
                           model.rope_low_freq_factor,
                           model.rope_high_freq_factor);
  }
  if (yarn && !(model.rope_beta_slow > 0 &&
                model.rope_beta_fast > model.rope_beta_slow)) {
    return InvalidArgument("rope's beta_fast is {}, beta_slow {}",
                           model.rope_beta_fast, model.rope_beta_slow);
  }
  for (const float f : factors) {
    if (!(f > 0) || !std::isfinite(f)) {
      return InvalidArgument("rope_freqs.weight holds {}", f);
    }
  }
  kernels::RopeTable table;
  const double factor = static_cast<double>(model.rope_factor);
  for (int64_t i = 0; i < half; ++i) {
    double inv_freq =
        std::pow(static_cast<double>(model.rope_theta),
                 -static_cast<double>(i) / static_cast<double>(half));
    if (linear) inv_freq /= factor;
    if (llama3 && factors.empty()) inv_freq = Llama3(inv_freq, model);
    if (yarn) {
      const double keep =
          YarnKeep(static_cast<double>(i), static_cast<double>(half), model);
      inv_freq = inv_freq * keep + inv_freq / factor * (1 - keep);
    }
    if (!factors.empty()) {
      inv_freq /= static_cast<double>(factors[static_cast<size_t>(i)]);
    }
    table.inv_freq.push_back(static_cast<float>(inv_freq));
  }
  if (yarn && model.rope_magnitude > 0) {
    table.magnitude = model.rope_magnitude;
  } else if (yarn && factor > 1) {
    table.magnitude = static_cast<float>(0.1 * std::log(factor) + 1);
  }
  return table;
}

absl::StatusOr<kernels::RopeTable> MakeLocalRopeTable(
    const weights::ModelHyperparameters& model) {
  if (!(model.rope_local_theta > 0)) return kernels::RopeTable();
  weights::ModelHyperparameters plain = model;
  plain.rope_theta = model.rope_local_theta;
  plain.rope_scaling.clear();
  return MakeRopeTable(plain, {});
}

}  // namespace conclave::engine
