// JSON from strangers: bounded depth, no exceptions, typed getters that name
// the file and the key when something is wrong.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_JSON_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace conclave::weights {

using Json = nlohmann::json;

// INVALID_ARGUMENT when `text` is not a JSON object, or nests deeper than 64.
absl::StatusOr<Json> ParseJson(std::string_view text, std::string_view file);

// The member of an object; nullptr when absent or null.
const Json* Member(const Json& object, std::string_view key);

// Nothing when absent or null; INVALID_ARGUMENT for another type.
absl::StatusOr<std::optional<int64_t>> IntMember(const Json& object,
                                                 std::string_view key);
absl::StatusOr<std::optional<double>> NumberMember(const Json& object,
                                                   std::string_view key);
absl::StatusOr<std::optional<bool>> BoolMember(const Json& object,
                                               std::string_view key);
absl::StatusOr<std::optional<std::string>> TextMember(const Json& object,
                                                      std::string_view key);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_JSON_H_
