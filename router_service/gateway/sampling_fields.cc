#include "router_service/gateway/sampling_fields.h"

#include <charconv>
#include <limits>
#include <string>

#include "router_service/gateway/json_fields.h"
#include "router_service/gateway/openai_error.h"

namespace conclave::gateway {
namespace {

using nlohmann::json;

// The one table of ranges.
struct FloatField {
  const char* name;
  double low;
  double high;
  bool open_low;  // the lower bound itself is refused
  void (v1::SamplingParams::*set)(float);
};
constexpr FloatField kFloats[] = {
    {"temperature", 0, 2, false, &v1::SamplingParams::set_temperature},
    {"top_p", 0, 1, true, &v1::SamplingParams::set_top_p},
    {"min_p", 0, 1, false, &v1::SamplingParams::set_min_p},
    {"repetition_penalty", 0, 10, true,
     &v1::SamplingParams::set_repetition_penalty},
    {"presence_penalty", -2, 2, false,
     &v1::SamplingParams::set_presence_penalty},
    {"frequency_penalty", -2, 2, false,
     &v1::SamplingParams::set_frequency_penalty},
};
struct IntField {
  const char* name;
  int64_t low;
  int64_t high;
  void (v1::SamplingParams::*set)(int32_t);
};
constexpr int64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr IntField kInts[] = {
    {"top_k", -1, kMaxInt32, &v1::SamplingParams::set_top_k},
    {"n", 1, 8, &v1::SamplingParams::set_n},
};
constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 256;
constexpr size_t kMaxBiases = 1024;
constexpr double kMaxBias = 100;

absl::Status ReadStop(const json& body, v1::SamplingParams& sampling) {
  const json* stop = Find(body, "stop");
  if (stop == nullptr) return absl::OkStatus();
  const auto add = [&](const json& value,
                       const std::string& param) -> absl::Status {
    if (!value.is_string()) {
      return FieldError(param, "invalid_type", "{} must be a string, not {}",
                        param, TypeName(value));
    }
    const auto& text = value.get_ref<const std::string&>();
    if (text.empty() || text.size() > kMaxStopBytes) {
      return FieldError(param, "invalid_value",
                        "{} must be 1..{} bytes, not {}", param, kMaxStopBytes,
                        text.size());
    }
    sampling.add_stop(text);
    return absl::OkStatus();
  };
  if (!stop->is_array()) return add(*stop, "stop");
  if (stop->size() > kMaxStops) {
    return FieldError("stop", "invalid_value",
                      "stop holds {} strings; at most {} are taken",
                      stop->size(), kMaxStops);
  }
  for (size_t i = 0; i < stop->size(); ++i) {
    RETURN_IF_ERROR(add((*stop)[i], fmt::format("stop[{}]", i)));
  }
  return absl::OkStatus();
}

absl::Status ReadLogitBias(const json& body, v1::SamplingParams& sampling) {
  const json* biases = Find(body, "logit_bias");
  if (biases == nullptr) return absl::OkStatus();
  if (!biases->is_object()) {
    return FieldError("logit_bias", "invalid_type",
                      "logit_bias must be an object of token id -> bias, not "
                      "{}",
                      TypeName(*biases));
  }
  if (biases->size() > kMaxBiases) {
    return FieldError("logit_bias", "invalid_value",
                      "logit_bias holds {} tokens; at most {} are taken",
                      biases->size(), kMaxBiases);
  }
  for (const auto& [key, value] : biases->items()) {
    int32_t token = -1;
    const char* end = key.data() + key.size();
    const auto parsed = std::from_chars(key.data(), end, token);
    if (parsed.ec != std::errc() || parsed.ptr != end || token < 0) {
      return FieldError("logit_bias", "invalid_value",
                        "logit_bias: \"{}\" is not a token id",
                        key.substr(0, 32));
    }
    if (!value.is_number()) {
      return FieldError("logit_bias", "invalid_type",
                        "logit_bias: the bias of token {} must be a number, "
                        "not {}",
                        token, TypeName(value));
    }
    const double bias = value.get<double>();
    if (!(bias >= -kMaxBias && bias <= kMaxBias)) {
      return FieldError("logit_bias", "invalid_value",
                        "logit_bias: the bias of token {} must be in {}..{}",
                        token, -kMaxBias, kMaxBias);
    }
    (*sampling.mutable_logit_bias())[token] = static_cast<float>(bias);
  }
  return absl::OkStatus();
}

// OpenAI's seed is a signed 64-bit number; every one of them is a seed.
absl::Status ReadSeed(const json& body, v1::SamplingParams& sampling) {
  const json* seed = Find(body, "seed");
  if (seed == nullptr) return absl::OkStatus();
  if (seed->is_number_unsigned()) {
    sampling.set_seed(seed->get<uint64_t>());
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const int64_t number,
                   ToInt(*seed, "seed", std::numeric_limits<int64_t>::min(),
                         std::numeric_limits<int64_t>::max()));
  sampling.set_seed(static_cast<uint64_t>(number));
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadSampling(const json& body, v1::SamplingParams& sampling) {
  for (const FloatField& field : kFloats) {
    ASSIGN_OR_RETURN(const std::optional<double> value,
                     ReadNumber(body, field.name, field.name, field.low,
                                field.high, field.open_low));
    if (!value.has_value()) continue;
    const auto narrow = static_cast<float>(*value);
    if (field.open_low && !(narrow > 0)) {  // 1e-300 is 0 as a float.
      return FieldError(field.name, "invalid_value", "{} is too small",
                        field.name);
    }
    (sampling.*field.set)(narrow);
  }
  for (const IntField& field : kInts) {
    ASSIGN_OR_RETURN(
        const std::optional<int64_t> value,
        ReadInt(body, field.name, field.name, field.low, field.high));
    if (value.has_value()) (sampling.*field.set)(static_cast<int>(*value));
  }
  // -1 is vLLM's word for "all"; ours is 0.
  if (sampling.top_k() == -1) sampling.set_top_k(0);
  ASSIGN_OR_RETURN(const std::optional<bool> ignore_eos,
                   ReadBool(body, "ignore_eos", "ignore_eos"));
  sampling.set_ignore_eos(ignore_eos.value_or(false));
  RETURN_IF_ERROR(ReadSeed(body, sampling));
  RETURN_IF_ERROR(ReadStop(body, sampling));
  return ReadLogitBias(body, sampling);
}

}  // namespace conclave::gateway
