#include "expert_workers/template/lexer.h"

#include <algorithm>

#include "expert_workers/template/text.h"
#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         (static_cast<uint8_t>(c) & 0x80) != 0;
}

// All line ends become \n, and one at the very end is dropped.
std::string NormalizeNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (pos_ < source_.size()) RETURN_IF_ERROR(Next());
    Add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  absl::Status Error(std::string_view what) const {
    return InvalidArgument("line {}: {}", line_, what);
  }
  void Add(TokenKind kind, std::string text) {
    tokens_.push_back({kind, std::move(text), line_});
  }
  bool At(std::string_view what, size_t offset = 0) const {
    return std::string_view(source_).substr(
               std::min(pos_ + offset, source_.size()), what.size()) == what;
  }
  void Advance(size_t count) {
    const auto begin = source_.begin() + static_cast<ptrdiff_t>(pos_);
    line_ += static_cast<int>(
        std::count(begin, begin + static_cast<ptrdiff_t>(count), '\n'));
    pos_ += count;
  }
  void SkipSpace() {
    while (pos_ < source_.size()) {
      const CodePoint c = DecodeUtf8(source_, pos_);
      if (c.value == kInvalidByte || !IsPythonSpace(c.value)) break;
      Advance(c.length);
    }
  }

  // Text up to the next tag, and that tag.
  absl::Status Next() {
    const size_t tag = FindTag();
    const bool found = tag != std::string::npos;
    const std::string_view text = std::string_view(source_).substr(
        pos_, found ? tag - pos_ : std::string::npos);
    if (!found) {
      AddData(text);
      Advance(text.size());
      return absl::OkStatus();
    }
    const char kind = source_[tag + 1];
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    AddData(Trimmed(text, kind, sign));
    Advance(text.size() + 2);
    if (sign == '-' || sign == '+') Advance(1);
    if (kind == '#') return Comment();
    if (kind == '%' && TakeWordAndEnd("raw")) return Raw();
    return Tag(kind == '%');
  }

  size_t FindTag() const {
    for (size_t i = source_.find('{', pos_); i != std::string::npos;
         i = source_.find('{', i + 1)) {
      if (i + 1 >= source_.size()) break;
      const char next = source_[i + 1];
      if (next == '{' || next == '%' || next == '#') return i;
    }
    return std::string::npos;
  }

  void AddData(std::string_view text) {
    if (!text.empty()) Add(TokenKind::kData, std::string(text));
  }

  // What is left of the text before a tag: "-" strips all white space, and a
  // block or comment that stands first on its line takes its indent with it.
  std::string_view Trimmed(std::string_view text, char kind, char sign) const {
    if (sign == '-') {
      const Text stripped = Strip(Text(std::string(text), true), "",
                                  /*left=*/false, /*right=*/true);
      return text.substr(0, stripped.size());
    }
    if (sign == '+' || kind == '{') return text;
    const size_t newline = text.rfind('\n');
    const bool has_newline = newline != std::string_view::npos;
    const size_t start = has_newline ? newline + 1 : 0;
    const bool line_starts = pos_ == 0 || source_[pos_ - 1] == '\n';
    if (!has_newline && !line_starts) return text;
    const Text indent(std::string(text.substr(start)), true);
    const bool blank = Strip(indent, "", true, false).empty();
    return blank ? text.substr(0, start) : text;
  }

  // The end of a block or comment ("%" or "#"), if one stands here.
  bool TakeBlockEnd(char kind) {
    const char close[] = {kind, '}', '\0'};
    if (At(close)) {
      Advance(2);
      if (At("\n")) Advance(1);  // trim_blocks
      return true;
    }
    if (!At(close, 1) || (!At("-") && !At("+"))) return false;
    const bool strip = At("-");
    Advance(3);
    if (strip) SkipSpace();
    return true;
  }

  absl::Status Comment() {
    while (pos_ < source_.size()) {
      if (TakeBlockEnd('#')) return absl::OkStatus();
      Advance(1);
    }
    return Error("missing end of comment tag");
  }

  // "  raw %}" or "  raw -%}"; stays put when it is anything else.
  bool TakeWordAndEnd(std::string_view word) {
    const size_t start = pos_;
    const int line = line_;
    SkipSpace();
    if (At(word)) {
      Advance(word.size());
      SkipSpace();
      if (At("%}")) {
        Advance(2);
        return true;
      }
      if (At("-%}")) {
        Advance(3);
        SkipSpace();
        return true;
      }
    }
    pos_ = start;
    line_ = line;
    return false;
  }

  absl::Status Raw() {
    const size_t start = pos_;
    for (size_t i = source_.find("{%", pos_); i != std::string::npos;
         i = source_.find("{%", i + 2)) {
      const char sign = i + 2 < source_.size() ? source_[i + 2] : '\0';
      const int line = line_;
      pos_ = i + (sign == '-' || sign == '+' ? 3 : 2);
      SkipSpace();
      const bool word = At("endraw");
      pos_ += word ? 6 : 0;
      if (word) SkipSpace();
      const bool ends = word && TakeBlockEnd('%');
      const size_t end = pos_;
      pos_ = start;
      line_ = line;
      if (!ends) continue;
      AddData(Trimmed(std::string_view(source_).substr(start, i - start), '%',
                      sign));
      Advance(end - start);
      return absl::OkStatus();
    }
    return Error("missing end of raw directive");
  }

  bool TakeTagEnd(bool block) {
    if (block) return TakeBlockEnd('%');
    if (At("}}")) {
      Advance(2);
      return true;
    }
    if (!At("-}}")) return false;
    Advance(3);
    SkipSpace();
    return true;
  }

  absl::Status Tag(bool block) {
    Add(block ? TokenKind::kBlockBegin : TokenKind::kVariableBegin, "");
    std::string brackets;  // open ones: a dict's }} does not end the tag
    while (true) {
      SkipSpace();
      if (pos_ >= source_.size()) return Error("a tag is not closed");
      const int line = line_;
      if (brackets.empty() && TakeTagEnd(block)) {
        tokens_.push_back(
            {block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, "", line});
        return absl::OkStatus();
      }
      const char c = source_[pos_];
      if (IsDigit(c)) {
        RETURN_IF_ERROR(Number());
      } else if (IsNameStart(c)) {
        Name();
      } else if (c == '\'' || c == '"') {
        RETURN_IF_ERROR(String(c));
      } else {
        RETURN_IF_ERROR(Operator(&brackets));
      }
    }
  }

  void Name() {
    size_t end = pos_;
    while (end < source_.size() &&
           (IsNameStart(source_[end]) || IsDigit(source_[end]))) {
      ++end;
    }
    Add(TokenKind::kName, source_.substr(pos_, end - pos_));
    Advance(end - pos_);
  }

  size_t DigitsEnd(size_t pos) const {
    while (pos < source_.size() &&
           (IsDigit(source_[pos]) ||
            (source_[pos] == '_' && pos + 1 < source_.size() &&
             IsDigit(source_[pos + 1])))) {
      ++pos;
    }
    return pos;
  }

  absl::Status Number() {
    const auto digit_at = [&](size_t i) {
      return i < source_.size() && IsDigit(source_[i]);
    };
    const bool after_dot =
        !tokens_.empty() && tokens_.back().kind == TokenKind::kOperator &&
        tokens_.back().text == "." && pos_ > 0 && source_[pos_ - 1] == '.';
    size_t end = DigitsEnd(pos_);
    bool is_float = false;
    if (!after_dot && end < source_.size() && source_[end] == '.' &&
        digit_at(end + 1)) {
      is_float = true;
      end = DigitsEnd(end + 1);
    }
    if (!after_dot && end < source_.size() &&
        (source_[end] == 'e' || source_[end] == 'E')) {
      size_t power = end + 1;
      if (power < source_.size() &&
          (source_[power] == '+' || source_[power] == '-')) {
        ++power;
      }
      if (digit_at(power)) {
        is_float = true;
        end = DigitsEnd(power);
      }
    }
    std::string digits = source_.substr(pos_, end - pos_);
    std::erase(digits, '_');
    if (!is_float && digits.size() > 1 && digits[0] == '0' &&
        digits.find_first_not_of('0') != std::string::npos) {
      return Error("a number with a leading zero");
    }
    Add(is_float ? TokenKind::kFloat : TokenKind::kInteger, digits);
    Advance(end - pos_);
    return absl::OkStatus();
  }

  // \n, \x41, \u00e9, \U0001f600, \101 and the rest of Python's escapes.
  absl::Status Escape(std::string* out) {
    constexpr std::string_view kLetters = "\\'\"abfnrtv";
    constexpr std::string_view kValues = "\\'\"\a\b\f\n\r\t\v";
    const char c = source_[pos_ + 1];
    const size_t simple = kLetters.find(c);
    if (c == '\n') {
      Advance(2);
      return absl::OkStatus();
    }
    if (simple != std::string_view::npos) {
      *out += kValues[simple];
      Advance(2);
      return absl::OkStatus();
    }
    const bool octal = c >= '0' && c <= '7';
    const size_t want = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (!octal && want == 0) {  // Unknown escapes stay as they are.
      *out += '\\';
      Advance(1);
      return absl::OkStatus();
    }
    const uint32_t base = octal ? 8 : 16;
    const size_t limit = octal ? 3 : want;
    size_t digits = 0;
    uint32_t value = 0;
    const size_t first = pos_ + (octal ? 1 : 2);
    while (digits < limit && first + digits < source_.size()) {
      const char d = source_[first + digits];
      const uint32_t digit = IsDigit(d)               ? uint32_t(d - '0')
                             : (d >= 'a' && d <= 'f') ? uint32_t(d - 'a') + 10
                             : (d >= 'A' && d <= 'F') ? uint32_t(d - 'A') + 10
                                                      : 99;
      if (digit >= base) break;
      value = value * base + digit;
      ++digits;
    }
    const bool surrogate = value >= 0xD800 && value < 0xE000;
    if ((!octal && digits != want) || value > 0x10FFFF || surrogate) {
      return Error("a broken escape in a string");
    }
    AppendUtf8(value, out);
    Advance(first + digits - pos_);
    return absl::OkStatus();
  }

  absl::Status String(char quote) {
    const int line = line_;
    std::string value;
    Advance(1);
    while (pos_ < source_.size() && source_[pos_] != quote) {
      if (source_[pos_] == '\\' && pos_ + 1 < source_.size()) {
        RETURN_IF_ERROR(Escape(&value));
      } else {
        value += source_[pos_];
        Advance(1);
      }
    }
    if (pos_ >= source_.size()) return Error("a string is not closed");
    Advance(1);
    tokens_.push_back({TokenKind::kString, std::move(value), line});
    return absl::OkStatus();
  }

  absl::Status Operator(std::string* brackets) {
    for (const std::string_view two : {"//", "**", "==", "!=", ">=", "<="}) {
      if (!At(two)) continue;
      Add(TokenKind::kOperator, std::string(two));
      Advance(2);
      return absl::OkStatus();
    }
    const char c = source_[pos_];
    constexpr std::string_view kSingle = "+-/*%~[](){}><=.:|,;";
    if (kSingle.find(c) == std::string_view::npos) {
      return Error(fmt::format("unexpected character '{}'", c));
    }
    if (c == '(' || c == '[' || c == '{') {
      *brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
      if (!brackets->ends_with(c)) {
        return Error(fmt::format("unexpected '{}'", c));
      }
      brackets->pop_back();
    }
    Add(TokenKind::kOperator, std::string(1, c));
    Advance(1);
    return absl::OkStatus();
  }

  std::string source_;
  size_t pos_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

absl::StatusOr<std::vector<Token>> Lex(std::string_view source) {
  return Lexer(NormalizeNewlines(source)).Run();
}

}  // namespace conclave::engine
