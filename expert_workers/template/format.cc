#include "expert_workers/template/format.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "expert_workers/template/value_format.h"

namespace conclave::engine {
namespace {

// Wider fields than any real template's.
constexpr int kMaxWidth = 1000;
constexpr int kMaxPrecision = 100;

struct Field {
  bool left = false;
  bool zero = false;
  int width = 0;
  int precision = -1;
  char kind = 's';
};

absl::StatusOr<Text> FormatNumber(const Field& field, const Value& value) {
  if (!value.IsNumber()) {
    return FailedPrecondition("%{} needs a number, not {}", field.kind,
                              value.TypeName());
  }
  std::string text;
  if (field.kind == 'f') {
    text = fmt::format("{:.{}f}", value.AsDouble(),
                       field.precision < 0 ? 6 : field.precision);
  } else {
    const double number = value.AsDouble();
    if (value.IsFloat() &&
        (field.kind == 'x' || std::isnan(number) || std::abs(number) >= 9e18)) {
      return FailedPrecondition("%{} needs an integer", field.kind);
    }
    const int64_t whole =
        value.IsFloat() ? static_cast<int64_t>(number) : value.AsInt();
    text = field.kind == 'x' ? fmt::format("{:x}", whole)
                             : fmt::format("{}", whole);
  }
  const size_t width = static_cast<size_t>(field.width);
  if (field.zero && !field.left && text.size() < width) {
    text.insert(text[0] == '-' ? 1 : 0, width - text.size(), '0');
  }
  return Text(std::move(text), value.trusted());
}

absl::StatusOr<Text> FormatField(Interpreter* interpreter, const Field& field,
                                 const Value& value) {
  Text text;
  if (field.kind == 's') {
    ASSIGN_OR_RETURN(text, ToText(value, interpreter->budget()));
  } else if (field.kind == 'r') {
    ASSIGN_OR_RETURN(text, ToRepr(value, interpreter->budget()));
  } else {
    ASSIGN_OR_RETURN(text, FormatNumber(field, value));
  }
  const int64_t missing = field.width - CountCharacters(text.view());
  if (missing <= 0) return text;
  const Text padding(std::string(static_cast<size_t>(missing), ' '), true);
  Text padded = field.left ? text : padding;
  padded.Append(field.left ? padding : text);
  return padded;
}

// "-05.2f" after the percent sign; `pos` moves past it.
absl::StatusOr<Field> ParseField(std::string_view format, size_t* pos) {
  Field field;
  const auto number = [&](int limit) -> absl::StatusOr<int> {
    int value = 0;
    while (*pos < format.size() && format[*pos] >= '0' && format[*pos] <= '9') {
      value = value * 10 + (format[(*pos)++] - '0');
      if (value > limit) return FailedPrecondition("a field is too wide");
    }
    return value;
  };
  while (*pos < format.size() && (format[*pos] == '-' || format[*pos] == '0')) {
    (format[(*pos)++] == '-' ? field.left : field.zero) = true;
  }
  ASSIGN_OR_RETURN(field.width, number(kMaxWidth));
  if (*pos < format.size() && format[*pos] == '.') {
    ++*pos;
    ASSIGN_OR_RETURN(field.precision, number(kMaxPrecision));
  }
  if (*pos >= format.size()) return FailedPrecondition("incomplete format");
  field.kind = format[(*pos)++];
  if (field.kind == 'i') field.kind = 'd';
  if (std::string_view("srdfx").find(field.kind) == std::string_view::npos) {
    return FailedPrecondition("format %{} is not supported", field.kind);
  }
  return field;
}

}  // namespace

absl::StatusOr<Value> FormatPercent(Interpreter* interpreter,
                                    const Text& format, const Values& values) {
  Text out;
  size_t next = 0;
  const std::string_view view = format.view();
  for (size_t pos = 0; pos < view.size();) {
    const size_t sign = std::min(view.find('%', pos), view.size());
    out.Append(format.Substr(pos, sign - pos));
    if (sign == view.size()) break;
    pos = sign + 1;
    if (pos < view.size() && view[pos] == '%') {
      out.Append(format.Substr(pos++, 1));
      continue;
    }
    ASSIGN_OR_RETURN(const Field field, ParseField(view, &pos));
    if (next >= values.size()) {
      return FailedPrecondition("not enough arguments for format string");
    }
    ASSIGN_OR_RETURN(const Text text,
                     FormatField(interpreter, field, values[next++]));
    RETURN_IF_ERROR(interpreter->budget()->Bytes(text.size()));
    out.Append(text);
  }
  if (next < values.size() && !(values.size() == 1 && values[0].IsDict())) {
    return FailedPrecondition("not all arguments converted");
  }
  return interpreter->NewString(std::move(out));
}

absl::StatusOr<Value> FormatBraces(Interpreter* interpreter, const Text& format,
                                   const Call& call) {
  Text out;
  size_t next = 0;
  bool numbered = false;
  const std::string_view view = format.view();
  for (size_t pos = 0; pos < view.size();) {
    const size_t brace = std::min(view.find_first_of("{}", pos), view.size());
    out.Append(format.Substr(pos, brace - pos));
    if (brace == view.size()) break;
    pos = brace + 1;
    if (pos < view.size() && view[pos] == view[brace]) {
      out.Append(format.Substr(pos++, 1));
      continue;
    }
    RETURN_IF_ERROR(interpreter->budget()->Step(
        static_cast<int64_t>(1 + call.kwargs.size() / 16)));
    const size_t close = view.find('}', pos);
    if (view[brace] == '}' || close == std::string_view::npos) {
      return FailedPrecondition("single '{}' in format string", view[brace]);
    }
    const std::string_view name = view.substr(pos, close - pos);
    pos = close + 1;
    size_t index = call.args.size();
    const Value* value = nullptr;
    for (const auto& [known, kwarg] : call.kwargs) {
      if (known == name) value = &kwarg;
    }
    if (name.empty()) {
      index = next++;
    } else if (value == nullptr) {
      const char* const end = name.data() + name.size();
      const auto parsed = std::from_chars(name.data(), end, index);
      if (parsed.ec != std::errc() || parsed.ptr != end) {
        return FailedPrecondition("format field '{}' is not known", name);
      }
      numbered = true;
    }
    if (numbered && next > 0) {
      return FailedPrecondition("a format numbers all of its fields or none");
    }
    if (value == nullptr && index < call.args.size()) {
      value = &call.args[index];
    }
    if (value == nullptr) {
      return FailedPrecondition("not enough arguments for format string");
    }
    ASSIGN_OR_RETURN(const Text text, ToText(*value, interpreter->budget()));
    RETURN_IF_ERROR(interpreter->budget()->Bytes(text.size()));
    out.Append(text);
  }
  return interpreter->NewString(std::move(out));
}

}  // namespace conclave::engine
