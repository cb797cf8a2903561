#include "expert_workers/engine/sampling_params.h"

#include <cmath>

namespace conclave::engine {
namespace {

template <typename T>
absl::Status InRange(const char* name, T value, T low, T high) {
  if (value >= low && value <= high) return absl::OkStatus();  // NaN: neither
  return InvalidArgument("{} is {}; it must be {}..{}", name, value, low, high);
}

template <typename T>
absl::Status AboveUpTo(const char* name, T value, T low, T high) {
  if (value > low && value <= high) return absl::OkStatus();
  return InvalidArgument("{} is {}; it must be above {} and at most {}", name,
                         value, low, high);
}

}  // namespace

absl::Status CheckSamplingParams(const SamplingParams& p) {
  RETURN_IF_ERROR(InRange("temperature", p.temperature, 0.0f, 2.0f));
  RETURN_IF_ERROR(InRange("top_k", p.top_k, 0, 1 << 30));
  RETURN_IF_ERROR(AboveUpTo("top_p", p.top_p, 0.0f, 1.0f));
  RETURN_IF_ERROR(InRange("min_p", p.min_p, 0.0f, 1.0f));
  RETURN_IF_ERROR(
      AboveUpTo("repetition_penalty", p.repetition_penalty, 0.0f, 10.0f));
  RETURN_IF_ERROR(InRange("presence_penalty", p.presence_penalty, -2.0f, 2.0f));
  RETURN_IF_ERROR(
      InRange("frequency_penalty", p.frequency_penalty, -2.0f, 2.0f));
  if (p.logit_bias.size() > 1024) {
    return InvalidArgument("logit_bias has {} entries; it may have 1024",
                           p.logit_bias.size());
  }
  for (const auto& [token, bias] : p.logit_bias) {
    if (token < 0) {
      return InvalidArgument("logit_bias names token {}; ids start at 0",
                             token);
    }
    RETURN_IF_ERROR(InRange("logit_bias", bias, -100.0f, 100.0f));
  }
  if (p.stop.size() > 16) {
    return InvalidArgument("stop has {} strings; it may have 16",
                           p.stop.size());
  }
  for (const std::string& stop : p.stop) {
    if (stop.empty() || stop.size() > 256) {
      return InvalidArgument("stop has a string of {} bytes; it must be 1..256",
                             stop.size());
    }
  }
  RETURN_IF_ERROR(
      InRange("max_tokens", p.max_tokens, int64_t{-1}, int64_t{1} << 40));
  RETURN_IF_ERROR(InRange("logprobs", p.logprobs, -1, 20));
  return InRange("n", p.n, 1, 8);
}

}  // namespace conclave::engine
