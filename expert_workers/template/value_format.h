// Values as text, the way Python writes them.
#ifndef CONCLAVE_EXPERT_WORKERS_TEMPLATE_VALUE_FORMAT_H_
#define CONCLAVE_EXPERT_WORKERS_TEMPLATE_VALUE_FORMAT_H_

#include <optional>
#include <string>

#include "expert_workers/template/value.h"

namespace conclave::engine {

// str(value); "" for undefined. Strings keep their marks; everything else is
// trusted when all of it is.
absl::StatusOr<Text> ToText(const Value& value, Budget* budget);

// repr(value).
absl::StatusOr<Text> ToRepr(const Value& value, Budget* budget);

// json.dumps with its own defaults.
struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<std::string> indent;  // one level of it
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
absl::StatusOr<Text> ToJson(const Value& value, const JsonStyle& style,
                            Budget* budget);

// repr(float): the shortest digits that read back the same.
std::string FloatRepr(double value);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TEMPLATE_VALUE_FORMAT_H_
