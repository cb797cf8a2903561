#include "expert_workers/template/value_format.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {
namespace {

// Text under construction, trusted until something untrusted is in it.
struct Output {
  std::string text;
  bool trusted = true;
  Budget* budget;

  absl::Status Add(std::string_view part) {
    RETURN_IF_ERROR(budget->Bytes(part.size() + 1));
    text += part;
    return absl::OkStatus();
  }
};

bool IsPrintable(char32_t c) {
  if (c == U' ') return true;
  constexpr uint32_t kHidden = U_GC_C_MASK | U_GC_Z_MASK;
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & kHidden) == 0;
}

std::string QuotedRepr(std::string_view text) {
  const bool single = text.find('\'') == std::string_view::npos ||
                      text.find('"') != std::string_view::npos;
  const char quote = single ? '\'' : '"';
  std::string out(1, quote);
  for (size_t pos = 0; pos < text.size();) {
    const CodePoint c = DecodeUtf8(text, pos);
    const std::string_view bytes = text.substr(pos, c.length);
    pos += c.length;
    if (c.value == static_cast<char32_t>(quote) || c.value == U'\\') {
      out += '\\';
      out += bytes;
    } else if (c.value == U'\n') {
      out += "\\n";
    } else if (c.value == U'\r') {
      out += "\\r";
    } else if (c.value == U'\t') {
      out += "\\t";
    } else if (c.value == kInvalidByte || IsPrintable(c.value)) {
      out += bytes;
    } else if (c.value < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c.value));
    } else if (c.value < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c.value));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c.value));
    }
  }
  return out + quote;
}

void AppendUtf16Escape(char32_t c, std::string* out) {
  if (c >= 0x10000) {
    AppendUtf16Escape(0xD7C0 + (c >> 10), out);
    AppendUtf16Escape(0xDC00 + (c & 0x3FF), out);
    return;
  }
  *out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
}

std::string QuotedJson(std::string_view text, bool ensure_ascii) {
  std::string out = "\"";
  for (size_t pos = 0; pos < text.size();) {
    const CodePoint c = DecodeUtf8(text, pos);
    const std::string_view bytes = text.substr(pos, c.length);
    pos += c.length;
    constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b";
    constexpr std::string_view kLetters = "\"\\nrtfb";
    const size_t escape = c.value < 0x80
                              ? kEscaped.find(static_cast<char>(c.value))
                              : std::string_view::npos;
    if (escape != std::string_view::npos) {
      out += '\\';
      out += kLetters[escape];
    } else if (c.value < 0x20 ||
               (ensure_ascii && c.value >= 0x7F && c.value != kInvalidByte)) {
      AppendUtf16Escape(c.value, &out);
    } else {
      out += bytes;
    }
  }
  return out + '"';
}

std::string ScalarRepr(const Value& value) {
  if (value.IsNone()) return "None";
  if (value.IsBool()) return value.boolean() ? "True" : "False";
  if (value.IsInt()) return fmt::format("{}", value.AsInt());
  if (value.IsFloat()) return FloatRepr(value.AsDouble());
  if (value.IsUndefined()) return "Undefined";
  return fmt::format("<{}>", value.TypeName());
}

// Recurses to Value::kMaxDepth, no further: deeper values are never built.
absl::Status AddRepr(const Value& value, Output* out) {
  RETURN_IF_ERROR(out->budget->Step());
  if (value.IsString()) {
    out->trusted = out->trusted && value.text().trusted();
    return out->Add(QuotedRepr(value.text().view()));
  }
  if (value.IsList()) {
    const List& list = value.list();
    RETURN_IF_ERROR(out->Add(list.tuple ? "(" : "["));
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) RETURN_IF_ERROR(out->Add(", "));
      RETURN_IF_ERROR(AddRepr(list.items[i], out));
    }
    if (list.tuple && list.items.size() == 1) RETURN_IF_ERROR(out->Add(","));
    return out->Add(list.tuple ? ")" : "]");
  }
  if (value.IsDict()) {
    RETURN_IF_ERROR(out->Add("{"));
    bool first = true;
    for (const auto& [key, item] : value.dict().entries()) {
      if (!first) RETURN_IF_ERROR(out->Add(", "));
      first = false;
      RETURN_IF_ERROR(AddRepr(key, out));
      RETURN_IF_ERROR(out->Add(": "));
      RETURN_IF_ERROR(AddRepr(item, out));
    }
    return out->Add("}");
  }
  out->trusted = out->trusted && value.trusted();
  return out->Add(ScalarRepr(value));
}

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, Output* out) : style_(style), out_(*out) {}

  absl::Status Add(const Value& value, int level) {
    RETURN_IF_ERROR(out_.budget->Step());
    if (value.IsList()) return AddList(value.list(), level);
    if (value.IsDict()) return AddDict(value.dict(), level);
    ASSIGN_OR_RETURN(const std::string scalar, Scalar(value));
    if (value.IsString()) return out_.Add(QuotedJson(scalar, ascii()));
    return out_.Add(scalar);
  }

 private:
  bool ascii() const { return style_.ensure_ascii; }

  // A key or a value; strings unquoted.
  absl::StatusOr<std::string> Scalar(const Value& value) {
    if (value.IsString()) {
      out_.trusted = out_.trusted && value.text().trusted();
      return value.text().bytes();
    }
    out_.trusted = out_.trusted && value.trusted();
    if (value.IsNone()) return std::string("null");
    if (value.IsBool()) return std::string(value.boolean() ? "true" : "false");
    if (value.IsFloat()) {
      const double number = value.AsDouble();
      if (std::isnan(number)) return std::string("NaN");
      if (std::isinf(number)) {
        return std::string(number < 0 ? "-Infinity" : "Infinity");
      }
    }
    if (value.IsNumber()) return ScalarRepr(value);
    return FailedPrecondition("Object of type {} is not JSON serializable",
                              value.TypeName());
  }

  absl::Status NewLine(int level) {
    if (!style_.indent) return absl::OkStatus();
    RETURN_IF_ERROR(out_.Add("\n"));
    for (int i = 0; i < level; ++i) RETURN_IF_ERROR(out_.Add(*style_.indent));
    return absl::OkStatus();
  }

  absl::Status AddList(const List& list, int level) {
    if (list.items.empty()) return out_.Add("[]");
    RETURN_IF_ERROR(out_.Add("["));
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i > 0) RETURN_IF_ERROR(out_.Add(style_.item_separator));
      RETURN_IF_ERROR(NewLine(level + 1));
      RETURN_IF_ERROR(Add(list.items[i], level + 1));
    }
    RETURN_IF_ERROR(NewLine(level));
    return out_.Add("]");
  }

  absl::Status AddDict(const Dict& dict, int level) {
    if (dict.entries().empty()) return out_.Add("{}");
    std::vector<std::pair<std::string, const Value*>> entries;
    for (const auto& [key, value] : dict.entries()) {
      ASSIGN_OR_RETURN(std::string name, Scalar(key));
      entries.emplace_back(std::move(name), &value);
    }
    if (style_.sort_keys) {
      std::stable_sort(
          entries.begin(), entries.end(),
          [](const auto& a, const auto& b) { return a.first < b.first; });
    }
    RETURN_IF_ERROR(out_.Add("{"));
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) RETURN_IF_ERROR(out_.Add(style_.item_separator));
      RETURN_IF_ERROR(NewLine(level + 1));
      RETURN_IF_ERROR(out_.Add(QuotedJson(entries[i].first, ascii())));
      RETURN_IF_ERROR(out_.Add(style_.key_separator));
      RETURN_IF_ERROR(Add(*entries[i].second, level + 1));
    }
    RETURN_IF_ERROR(NewLine(level));
    return out_.Add("}");
  }

  const JsonStyle& style_;
  Output& out_;
};

}  // namespace

absl::StatusOr<Text> ToText(const Value& value, Budget* budget) {
  if (value.IsString()) {
    RETURN_IF_ERROR(budget->Scan(value.text().size()));
    return value.text();
  }
  if (value.IsUndefined()) return Text();
  return ToRepr(value, budget);
}

absl::StatusOr<Text> ToRepr(const Value& value, Budget* budget) {
  Output out{.text = {}, .trusted = true, .budget = budget};
  RETURN_IF_ERROR(AddRepr(value, &out));
  return Text(std::move(out.text), out.trusted);
}

absl::StatusOr<Text> ToJson(const Value& value, const JsonStyle& style,
                            Budget* budget) {
  Output out{.text = {}, .trusted = true, .budget = budget};
  RETURN_IF_ERROR(JsonWriter(style, &out).Add(value, 0));
  return Text(std::move(out.text), out.trusted);
}

std::string FloatRepr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value,
                                 std::chars_format::scientific);
  // [-]d[.ddd]e[+-]xx
  std::string_view text(buffer, static_cast<size_t>(end.ptr - buffer));
  std::string sign;
  if (text[0] == '-') {
    sign = "-";
    text.remove_prefix(1);
  }
  const size_t e = text.find('e');
  std::string digits(text.substr(0, 1));
  if (e > 2) digits += text.substr(2, e - 2);
  int exponent = 0;
  const std::string_view power = text.substr(e + 2);
  std::from_chars(power.data(), power.data() + power.size(), exponent);
  if (text[e + 1] == '-') exponent = -exponent;
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    const std::string fraction = count > 1 ? "." + digits.substr(1) : "";
    return fmt::format("{}{}{}e{}{:02}", sign, digits[0], fraction,
                       exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0) {
    return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') +
           digits;
  }
  if (count <= exponent + 1) {
    return sign + digits +
           std::string(static_cast<size_t>(exponent + 1 - count), '0') + ".0";
  }
  const auto whole = static_cast<size_t>(exponent) + 1;
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

}  // namespace conclave::engine
