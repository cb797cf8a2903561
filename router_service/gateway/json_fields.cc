#include "router_service/gateway/json_fields.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/names.h"
#include "router_service/gateway/openai_error.h"

namespace conclave::gateway {

using nlohmann::json;

std::string_view TypeName(const json& value) {
  switch (value.type()) {
    case json::value_t::null:
      return "null";
    case json::value_t::object:
      return "an object";
    case json::value_t::array:
      return "an array";
    case json::value_t::string:
      return "a string";
    case json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

const json* Find(const json& object, const char* name) {
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

absl::StatusOr<std::optional<bool>> ReadBool(const json& object,
                                             const char* name,
                                             const std::string& param) {
  const json* value = Find(object, name);
  if (value == nullptr) return std::optional<bool>();
  if (!value->is_boolean()) {
    return FieldError(param, "invalid_type", "{} must be a boolean, not {}",
                      param, TypeName(*value));
  }
  return std::optional<bool>(value->get<bool>());
}

absl::StatusOr<int64_t> ToInt(const json& value, const std::string& param,
                              int64_t low, int64_t high) {
  const auto out_of_range = [&] {
    return FieldError(param, "invalid_value", "{} must be in {}..{}", param,
                      low, high);
  };
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(INT64_MAX)) return out_of_range();
  } else if (value.is_number_float()) {
    // Beyond 2^53 a double no longer tells neighbours apart.
    const double number = value.get<double>();
    if (!(std::abs(number) <= 9007199254740992.0)) return out_of_range();
    if (number != std::trunc(number)) {
      return FieldError(param, "invalid_type", "{} must be a whole number",
                        param);
    }
  } else if (!value.is_number_integer()) {
    return FieldError(param, "invalid_type",
                      "{} must be a whole number, not {}", param,
                      TypeName(value));
  }
  const auto number = value.get<int64_t>();
  if (number < low || number > high) return out_of_range();
  return number;
}

absl::StatusOr<std::optional<int64_t>> ReadInt(const json& object,
                                               const char* name,
                                               const std::string& param,
                                               int64_t low, int64_t high) {
  const json* value = Find(object, name);
  if (value == nullptr) return std::optional<int64_t>();
  ASSIGN_OR_RETURN(const int64_t number, ToInt(*value, param, low, high));
  return std::optional<int64_t>(number);
}

absl::StatusOr<std::optional<double>> ReadNumber(const json& object,
                                                 const char* name,
                                                 const std::string& param,
                                                 double low, double high,
                                                 bool open_low) {
  const json* value = Find(object, name);
  if (value == nullptr) return std::optional<double>();
  if (!value->is_number()) {
    return FieldError(param, "invalid_type", "{} must be a number, not {}",
                      param, TypeName(*value));
  }
  const double number = value->get<double>();
  if (!(number >= low && number <= high) || (open_low && number <= low)) {
    return FieldError(param, "invalid_value", "{} must be {} {} and at most {}",
                      param, open_low ? "over" : "at least", low, high);
  }
  return std::optional<double>(number);
}

absl::StatusOr<std::optional<std::string>> ReadString(const json& object,
                                                      const char* name,
                                                      const std::string& param,
                                                      size_t max_bytes) {
  const json* value = Find(object, name);
  if (value == nullptr) return std::optional<std::string>();
  if (!value->is_string()) {
    return FieldError(param, "invalid_type", "{} must be a string, not {}",
                      param, TypeName(*value));
  }
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > max_bytes) {
    return FieldError(param, "invalid_value",
                      "{} is {} bytes; at most {} are taken", param,
                      text.size(), max_bytes);
  }
  return std::optional<std::string>(text);
}

absl::Status RefuseUnknown(const json& object,
                           std::span<const std::string_view> known,
                           const std::string& prefix) {
  for (const auto& [name, value] : object.items()) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string shown = name.substr(0, 64);
    const std::vector<std::string> names(known.begin(), known.end());
    return FieldError(prefix + shown, "unknown_field",
                      "unknown field \"{}{}\".{}", prefix, shown,
                      DidYouMean(shown, names));
  }
  return absl::OkStatus();
}

}  // namespace conclave::gateway
