// Filters on text and numbers.
#include "expert_workers/template/filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "expert_workers/template/arguments.h"
#include "expert_workers/template/format.h"
#include "expert_workers/template/value_format.h"

namespace conclave::engine {
namespace {

using Result = absl::StatusOr<Value>;

Result WithCase(Interpreter* interpreter, const Value& input,
                CaseChange change) {
  ASSIGN_OR_RETURN(const Text text, ToText(input, interpreter->budget()));
  return interpreter->NewString(ChangeCase(text, change));
}

Result Upper(Interpreter* i, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("upper", call, {}));
  return WithCase(i, input, CaseChange::kUpper);
}

Result Lower(Interpreter* i, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("lower", call, {}));
  return WithCase(i, input, CaseChange::kLower);
}

Result Capitalize(Interpreter* i, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("capitalize", call, {}));
  return WithCase(i, input, CaseChange::kCapitalize);
}

// Jinja's own title(): a word starts after -, space, ( { [ and <.
Result Title(Interpreter* i, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("title", call, {}));
  ASSIGN_OR_RETURN(const Text text, ToText(input, i->budget()));
  Text out;
  Text word;
  const auto flush = [&] {
    out.Append(ChangeCase(word, CaseChange::kCapitalize));
    word = Text();
  };
  RETURN_IF_ERROR(i->budget()->Bytes(text.size() * sizeof(Text)));
  for (const Text& c : Characters(text)) {
    const bool border =
        std::string_view("-({[<").find(c.view()) != std::string_view::npos ||
        Strip(c, "", true, false).empty();
    if (!border) {
      word.Append(c);
      continue;
    }
    flush();
    out.Append(c);
  }
  flush();
  return i->NewString(std::move(out));
}

Result Trim(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("trim", call, {"chars"}));
  ASSIGN_OR_RETURN(const Text text, ToText(input, i->budget()));
  Text chars;
  if (args.Given(0)) {
    ASSIGN_OR_RETURN(chars, args.String(0, ""));
    if (chars.empty()) return i->NewString(text);
    RETURN_IF_ERROR(i->budget()->Scan(chars.size() * 16));
  }
  return i->NewString(Strip(text, chars.view(), true, true));
}

Result ReplaceFilter(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(
      const Arguments args,
      Arguments::Bind("replace", call, {"old", "new", "count"}, 2));
  ASSIGN_OR_RETURN(const Text text, ToText(input, i->budget()));
  ASSIGN_OR_RETURN(const Text from, ToText(*args[0], i->budget()));
  ASSIGN_OR_RETURN(const Text to, ToText(*args[1], i->budget()));
  int64_t count = -1;
  if (args.Given(2)) {
    ASSIGN_OR_RETURN(count, args.Int(2, -1));
  }
  const size_t matches =
      from.empty() ? text.size() + 1 : text.size() / from.size();
  RETURN_IF_ERROR(i->budget()->Bytes(matches * to.size()));
  RETURN_IF_ERROR(i->budget()->Search(text.size(), from.size()));
  return i->NewString(Replace(text, from.view(), to, count));
}

Result IndentFilter(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(
      const Arguments args,
      Arguments::Bind("indent", call, {"width", "first", "blank"}));
  ASSIGN_OR_RETURN(Text text, ToText(input, i->budget()));
  Text indent("    ", true);
  if (args[0] && args[0]->IsString()) {
    indent = args[0]->text();
  } else if (args[0]) {
    ASSIGN_OR_RETURN(const int64_t width, args.Int(0, 4));
    RETURN_IF_ERROR(i->budget()->Bytes(width > 0 ? size_t(width) : 0));
    indent = Text(std::string(width > 0 ? size_t(width) : 0, ' '), true);
  }
  text.Append("\n", true);  // Jinja does; the last line end is then lost.
  const std::vector<Text> lines = SplitLines(text, /*keep_ends=*/false);
  RETURN_IF_ERROR(i->budget()->Bytes(lines.size() * (indent.size() + 1)));
  Text out;
  if (args.Truth(1, false)) out.Append(indent);
  for (size_t line = 0; line < lines.size(); ++line) {
    if (line > 0) out.Append("\n", true);
    const bool indented = !lines[line].empty() || args.Truth(2, false);
    if (line > 0 && indented) out.Append(indent);
    out.Append(lines[line]);
  }
  return i->NewString(std::move(out));
}

Result Escape(Interpreter* i, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("escape", call, {}));
  ASSIGN_OR_RETURN(Text text, ToText(input, i->budget()));
  constexpr std::pair<std::string_view, std::string_view> kEntities[] = {
      {"&", "&amp;"}, {"<", "&lt;"},   {">", "&gt;"},
      {"'", "&#39;"}, {"\"", "&#34;"},
  };
  RETURN_IF_ERROR(i->budget()->Bytes(text.size() * 5));
  for (const auto& [plain, entity] : kEntities) {
    text = Replace(text, plain, Text(std::string(entity), true), -1);
  }
  return i->NewString(std::move(text));
}

Result String(Interpreter* i, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("string", call, {}));
  ASSIGN_OR_RETURN(Text text, ToText(input, i->budget()));
  return i->NewString(std::move(text));
}

Result Format(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(const Text text, ToText(input, i->budget()));
  if (!call.kwargs.empty()) {
    return FailedPrecondition("format: named values are not supported");
  }
  return FormatPercent(i, text, call.args);
}

Result ToJsonFilter(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(
      const Arguments args,
      Arguments::Bind("tojson", call,
                      {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style;
  style.ensure_ascii = args.Truth(0, false);
  style.sort_keys = args.Truth(3, false);
  if (args.Given(1) && args[1]->IsString()) {
    style.indent = args[1]->text().bytes();
  } else if (args.Given(1)) {
    ASSIGN_OR_RETURN(const int64_t width, args.Int(1, 0));
    style.indent = std::string(
        static_cast<size_t>(std::clamp<int64_t>(width, 0, 1000)), ' ');
  }
  if (style.indent) style.item_separator.assign(1, ',');
  if (args.Given(2)) {
    ASSIGN_OR_RETURN(const Values both, i->Iterate(*args[2]));
    if (both.size() != 2 || !both[0].IsString() || !both[1].IsString()) {
      return FailedPrecondition("tojson: separators are two strings");
    }
    style.item_separator = both[0].text().bytes();
    style.key_separator = both[1].text().bytes();
  }
  ASSIGN_OR_RETURN(Text text, ToJson(input, style, i->budget()));
  return i->NewString(std::move(text));
}

Result Default(Interpreter*, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(
      const Arguments args,
      Arguments::Bind("default", call, {"default_value", "boolean"}));
  const bool replaced =
      input.IsUndefined() || (args.Truth(1, false) && !input.Truth());
  if (!replaced) return input;
  return args[0] ? *args[0] : Value::Trusted("");
}

Result Abs(Interpreter*, const Value& input, const Call& call) {
  RETURN_IF_ERROR(Arguments::Bind("abs", call, {}));
  if (input.IsFloat()) return Value::Float(std::abs(input.AsDouble()));
  if (!input.IsNumber() || input.AsInt() == INT64_MIN) {
    return FailedPrecondition("abs needs a number");
  }
  return Value::Int(std::abs(input.AsInt()));
}

template <typename T>
bool ParseWhole(const Text& text, T* value) {
  const Text stripped = Strip(text, "", true, true);
  std::string_view view = stripped.view();
  if (view.size() > 1 && view[0] == '+' && view[1] != '-') {
    view.remove_prefix(1);
  }
  const char* const end = view.data() + view.size();
  const auto parsed = std::from_chars(view.data(), end, *value);
  return parsed.ec == std::errc() && parsed.ptr == end;
}

Value Trusting(Value value, const Value& source) {
  const bool trusted =
      source.IsString() ? source.text().trusted() : source.trusted();
  return trusted ? value : value.Untrusted();
}

Result Int(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("int", call, {"default", "base"}));
  if (input.IsInt() || input.IsBool()) {
    return Trusting(Value::Int(input.AsInt()), input);
  }
  double number = NAN;
  if (input.IsString()) {
    // Read twice: as an integer, then as any number.
    RETURN_IF_ERROR(i->budget()->Scan(2 * input.text().size()));
    int64_t whole = 0;
    if (ParseWhole(input.text(), &whole)) {
      return Trusting(Value::Int(whole), input);
    }
    if (!ParseWhole(input.text(), &number)) number = NAN;
  } else if (input.IsFloat()) {
    number = input.AsDouble();
  } else if (input.IsUndefined()) {
    return FailedPrecondition("int of an undefined value");
  }
  if (std::abs(number) < 9.2e18) {
    return Trusting(Value::Int(static_cast<int64_t>(number)), input);
  }
  return args[0] ? *args[0] : Value::Int(0);
}

Result Float(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("float", call, {"default"}));
  if (input.IsNumber()) {
    return Trusting(Value::Float(input.AsDouble()), input);
  }
  double number = 0;
  if (input.IsString()) {
    RETURN_IF_ERROR(i->budget()->Scan(input.text().size()));
  }
  if (input.IsString() && ParseWhole(input.text(), &number)) {
    return Trusting(Value::Float(number), input);
  }
  if (input.IsUndefined()) {
    return FailedPrecondition("float of an undefined value");
  }
  return args[0] ? *args[0] : Value::Float(0.0);
}

Result Round(Interpreter*, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("round", call, {"precision", "method"}));
  if (!input.IsNumber()) return FailedPrecondition("round needs a number");
  ASSIGN_OR_RETURN(const int64_t precision, args.Int(0, 0));
  ASSIGN_OR_RETURN(const Text method, args.String(1, "common"));
  const double number = input.AsDouble();
  if (precision < -300 || precision > 300) {
    return FailedPrecondition("round: precision out of range");
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  double rounded = number;
  if (method.view() == "ceil") {
    rounded = std::ceil(number * scale) / scale;
  } else if (method.view() == "floor") {
    rounded = std::floor(number * scale) / scale;
  } else if (method.view() != "common") {
    return FailedPrecondition("round: method is common, ceil or floor");
  } else if (precision > 0) {
    // Decimal rounding of the exact value, as Python's round().
    const std::string digits = fmt::format("{:.{}f}", number, precision);
    std::from_chars(digits.data(), digits.data() + digits.size(), rounded);
  } else {
    rounded = std::nearbyint(number * scale) / scale;
  }
  if (input.IsFloat() || method.view() != "common") {
    return Trusting(Value::Float(rounded), input);
  }
  return Trusting(Value::Int(static_cast<int64_t>(rounded)), input);
}

Result Attr(Interpreter* i, const Value& input, const Call& call) {
  ASSIGN_OR_RETURN(const Arguments args,
                   Arguments::Bind("attr", call, {"name"}, 1));
  ASSIGN_OR_RETURN(const Text name, args.String(0, ""));
  // Attributes alone: a dict's keys are items.
  if (input.IsDict() && !HasMethod(input, name.view())) {
    return Value::MakeUndefined(name.view());
  }
  return i->GetAttribute(input, name.view());
}

}  // namespace

Filter FindTextFilter(std::string_view name) {
  static const auto* const table =
      new absl::flat_hash_map<std::string_view, Filter>{
          {"upper", Upper},
          {"lower", Lower},
          {"capitalize", Capitalize},
          {"title", Title},
          {"trim", Trim},
          {"replace", ReplaceFilter},
          {"indent", IndentFilter},
          {"escape", Escape},
          {"e", Escape},
          {"safe", String},  // Nothing is escaped that was not asked for.
          {"string", String},
          {"format", Format},
          {"tojson", ToJsonFilter},
          {"default", Default},
          {"d", Default},
          {"abs", Abs},
          {"int", Int},
          {"float", Float},
          {"round", Round},
          {"attr", Attr},
      };
  const auto found = table->find(name);
  return found == table->end() ? nullptr : found->second;
}

absl::StatusOr<Value> Interpreter::ApplyFilter(std::string_view name,
                                               const Value& input,
                                               const Call& call) {
  RETURN_IF_ERROR(budget_.Step());
  RETURN_IF_ERROR(PayForTexts(call));
  Filter filter = FindTextFilter(name);
  if (filter == nullptr) filter = FindSequenceFilter(name);
  if (filter == nullptr) {
    return FailedPrecondition("no filter named '{}'", name);
  }
  return filter(this, input, call);
}

}  // namespace conclave::engine
