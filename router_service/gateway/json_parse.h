// JSON from strangers: parsed under limits, so that no body can exhaust the
// stack or grow a hundredfold in memory.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_JSON_PARSE_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_JSON_PARSE_H_

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/status.h"

namespace conclave::gateway {

struct JsonLimits {
  // 64: a tool's JSON schema nests about twenty deep.
  size_t max_depth = 64;
  // Values of any kind. A prompt of 128k token ids fits; a value costs at
  // most about 100 bytes, so a body costs at most 40 MB beyond its text.
  size_t max_values = 400'000;
};

// The one document in `text` (UTF-8). INVALID_ARGUMENT with the byte position
// and code `invalid_json`, `json_too_deep`, `json_too_large` or
// `duplicate_field` (two readers could take different values).
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text,
                                         const JsonLimits& limits = {});

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_JSON_PARSE_H_
