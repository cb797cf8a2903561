// Reading typed fields out of a JSON object, with errors that name the field.
// A field that is absent or null is "not there".
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_JSON_FIELDS_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_JSON_FIELDS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace conclave::gateway {

// What a JSON value is, for messages: "a string", "null".
std::string_view TypeName(const nlohmann::json& value);

// The member, or null when absent or null.
const nlohmann::json* Find(const nlohmann::json& object, const char* name);

// Each returns nothing when the field is not there, and an error naming
// `param` when it has the wrong type or is out of range (bounds included).
absl::StatusOr<std::optional<bool>> ReadBool(const nlohmann::json& object,
                                             const char* name,
                                             const std::string& param);
absl::StatusOr<std::optional<int64_t>> ReadInt(const nlohmann::json& object,
                                               const char* name,
                                               const std::string& param,
                                               int64_t low, int64_t high);
// `open_low`: the lower bound itself is refused.
absl::StatusOr<std::optional<double>> ReadNumber(const nlohmann::json& object,
                                                 const char* name,
                                                 const std::string& param,
                                                 double low, double high,
                                                 bool open_low);
absl::StatusOr<std::optional<std::string>> ReadString(
    const nlohmann::json& object, const char* name, const std::string& param,
    size_t max_bytes);

// The value as a whole number in [low, high]; 5.0 counts, 5.5 does not.
absl::StatusOr<int64_t> ToInt(const nlohmann::json& value,
                              const std::string& param, int64_t low,
                              int64_t high);

// INVALID_ARGUMENT for the first member that is not one of `known`, with the
// nearest known one. `prefix` is put before its name ("messages[0].").
absl::Status RefuseUnknown(const nlohmann::json& object,
                           std::span<const std::string_view> known,
                           const std::string& prefix);

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_JSON_FIELDS_H_
