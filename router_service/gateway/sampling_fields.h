// The sampling fields that chat and plain completions share, by one table of
// ranges (the ranges of v1::SamplingParams).
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_SAMPLING_FIELDS_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_SAMPLING_FIELDS_H_

#include <nlohmann/json.hpp>

#include "base/status.h"
#include "conclave/v1/common.pb.h"

namespace conclave::gateway {

// Longest answer that may be asked for, in tokens: beyond any context here,
// and far from overflowing sums of it.
inline constexpr int64_t kMaxTokensLimit = 1'000'000'000;
// Most alternatives for each token.
inline constexpr int64_t kMaxLogprobs = 20;

// temperature, top_p, min_p, top_k, penalties, seed, n, stop, logit_bias,
// ignore_eos. Errors name the field.
absl::Status ReadSampling(const nlohmann::json& body,
                          v1::SamplingParams& sampling);

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_SAMPLING_FIELDS_H_
