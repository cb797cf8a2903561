#include "expert_workers/weights/json.h"

#include <limits>

namespace conclave::weights {
namespace {

constexpr int kMaxDepth = 64;

absl::Status WrongType(std::string_view key, std::string_view type) {
  return InvalidArgument("\"{}\" is not {}", key, type);
}

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text, std::string_view file) {
  bool too_deep = false;
  const auto watch = [&too_deep](int depth, Json::parse_event_t, Json&) {
    too_deep |= depth > kMaxDepth;
    return !too_deep;
  };
  Json value = Json::parse(text.begin(), text.end(), watch,
                           /*allow_exceptions=*/false);
  if (too_deep) {
    return InvalidArgument("{}: nested deeper than {}", file, kMaxDepth);
  }
  if (!value.is_object()) {
    return InvalidArgument("{}: not a JSON object", file);
  }
  return value;
}

const Json* Member(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return nullptr;
  return &*it;
}

absl::StatusOr<std::optional<int64_t>> IntMember(const Json& object,
                                                 std::string_view key) {
  const Json* value = Member(object, key);
  if (value == nullptr) return std::optional<int64_t>();
  if (value->is_number_unsigned()) {
    const auto number = value->get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return InvalidArgument("\"{}\" is {}", key, number);
    }
    return std::optional<int64_t>(static_cast<int64_t>(number));
  }
  if (!value->is_number_integer()) return WrongType(key, "an integer");
  return std::optional<int64_t>(value->get<int64_t>());
}

absl::StatusOr<std::optional<double>> NumberMember(const Json& object,
                                                   std::string_view key) {
  const Json* value = Member(object, key);
  if (value == nullptr) return std::optional<double>();
  if (!value->is_number()) return WrongType(key, "a number");
  return std::optional<double>(value->get<double>());
}

absl::StatusOr<std::optional<bool>> BoolMember(const Json& object,
                                               std::string_view key) {
  const Json* value = Member(object, key);
  if (value == nullptr) return std::optional<bool>();
  if (!value->is_boolean()) return WrongType(key, "true or false");
  return std::optional<bool>(value->get<bool>());
}

absl::StatusOr<std::optional<std::string>> TextMember(const Json& object,
                                                      std::string_view key) {
  const Json* value = Member(object, key);
  if (value == nullptr) return std::optional<std::string>();
  if (!value->is_string()) return WrongType(key, "a string");
  return std::optional<std::string>(value->get<std::string>());
}

}  // namespace conclave::weights
