#include "expert_workers/template/text.h"

#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <cstring>

#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {

bool Text::trusted() const {
  if (bytes_.empty()) return true;
  if (marks_.empty()) return trusted_;
  return marks_.find('\0') == std::string::npos;
}

void Text::SpellMarks() {
  if (marks_.empty()) marks_.assign(bytes_.size(), trusted_ ? 1 : 0);
}

void Text::Append(std::string_view bytes, bool trusted) {
  if (bytes.empty()) return;
  if (bytes_.empty()) {
    marks_.clear();
    trusted_ = trusted;
  } else if (!marks_.empty() || trusted != trusted_) {
    SpellMarks();
    marks_.append(bytes.size(), trusted ? 1 : 0);
  }
  bytes_ += bytes;
}

void Text::Append(const Text& other) {
  if (other.marks_.empty()) return Append(other.bytes_, other.trusted_);
  SpellMarks();
  marks_ += other.marks_;
  bytes_ += other.bytes_;
}

Text Text::Substr(size_t pos, size_t length) const {
  Text part(bytes_.substr(pos, length), trusted_);
  if (!marks_.empty()) {
    part.marks_ = marks_.substr(pos, length);
    if (part.marks_.empty()) part.trusted_ = true;
  }
  return part;
}

std::vector<Piece> Text::ToPieces() const {
  std::vector<Piece> pieces;
  if (bytes_.empty()) return pieces;
  if (marks_.empty()) return {{bytes_, trusted_}};
  for (size_t start = 0; start < bytes_.size();) {
    size_t end = marks_.find_first_not_of(marks_[start], start);
    if (end == std::string::npos) end = bytes_.size();
    pieces.push_back({bytes_.substr(start, end - start), marks_[start] == 1});
    start = end;
  }
  return pieces;
}

bool IsPythonSpace(char32_t c) {
  if (c <= U' ') return c == U' ' || (c >= 9 && c <= 13) || c >= 0x1C;
  if (c < 0x80) return false;
  return Classify(c) == CharClass::kSpace;
}

namespace {

// The start of the character that ends at `end` > 0.
size_t PreviousStart(std::string_view text, size_t end) {
  size_t pos = end - 1;
  while (pos > 0 && end - pos < 4 &&
         (static_cast<uint8_t>(text[pos]) & 0xC0) == 0x80) {
    --pos;
  }
  // Invalid bytes are characters of their own.
  return DecodeUtf8(text, pos).length == end - pos ? pos : end - 1;
}

// `set` is sorted.
bool Strips(char32_t c, const std::vector<char32_t>& set) {
  if (set.empty()) return c != kInvalidByte && IsPythonSpace(c);
  return std::binary_search(set.begin(), set.end(), c);
}

size_t SkipSpaces(std::string_view text, size_t pos, bool want_space) {
  while (pos < text.size()) {
    const CodePoint c = DecodeUtf8(text, pos);
    const bool space = c.value != kInvalidByte && IsPythonSpace(c.value);
    if (space != want_space) break;
    pos += c.length;
  }
  return pos;
}

std::vector<Text> SplitAtSpaces(const Text& text, int64_t max_splits) {
  std::vector<Text> parts;
  size_t pos = SkipSpaces(text.view(), 0, true);
  while (pos < text.size()) {
    if (max_splits >= 0 && static_cast<int64_t>(parts.size()) >= max_splits) {
      parts.push_back(Strip(text.Substr(pos), "", false, true));
      break;
    }
    const size_t end = SkipSpaces(text.view(), pos, false);
    parts.push_back(text.Substr(pos, end - pos));
    pos = SkipSpaces(text.view(), end, true);
  }
  return parts;
}

}  // namespace

size_t Find(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  // glibc's: the two-way algorithm for long needles, linear at worst.
  const void* found = memmem(text.data() + from, text.size() - from,
                             needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t FindLast(std::string_view text, std::string_view needle) {
  constexpr size_t kShort = 32;
  if (needle.size() <= kShort) return text.rfind(needle);
  const std::string backward(text.rbegin(), text.rend());
  const size_t found =
      Find(backward, std::string(needle.rbegin(), needle.rend()));
  if (found == std::string_view::npos) return found;
  return text.size() - found - needle.size();
}

Text Strip(const Text& text, std::string_view chars, bool left, bool right) {
  std::vector<char32_t> set;
  for (size_t pos = 0; pos < chars.size();) {
    const CodePoint c = DecodeUtf8(chars, pos);
    set.push_back(c.value);
    pos += c.length;
  }
  std::sort(set.begin(), set.end());
  set.erase(std::unique(set.begin(), set.end()), set.end());
  const std::string_view view = text.view();
  size_t begin = 0;
  size_t end = view.size();
  while (left && begin < end) {
    const CodePoint c = DecodeUtf8(view, begin);
    if (!Strips(c.value, set)) break;
    begin += c.length;
  }
  while (right && begin < end) {
    const size_t start = PreviousStart(view, end);
    if (!Strips(DecodeUtf8(view, start).value, set)) break;
    end = start;
  }
  return text.Substr(begin, end - begin);
}

Text Replace(const Text& text, std::string_view from, const Text& to,
             int64_t max_count) {
  Text out;
  size_t pos = 0;
  const auto more = [&] { return max_count < 0 || max_count-- > 0; };
  if (from.empty()) {  // Python: between all characters, and at both ends.
    while (more()) {
      out.Append(to);
      if (pos >= text.size()) return out;
      const size_t length = DecodeUtf8(text.view(), pos).length;
      out.Append(text.Substr(pos, length));
      pos += length;
    }
  }
  while (!from.empty()) {
    const size_t found = Find(text.view(), from, pos);
    if (found == std::string_view::npos || !more()) break;
    out.Append(text.Substr(pos, found - pos));
    out.Append(to);
    pos = found + from.size();
  }
  out.Append(text.Substr(pos));
  return out;
}

std::vector<Text> Split(const Text& text, std::string_view separator,
                        int64_t max_splits) {
  if (separator.empty()) return SplitAtSpaces(text, max_splits);
  std::vector<Text> parts;
  size_t pos = 0;
  while (max_splits < 0 || static_cast<int64_t>(parts.size()) < max_splits) {
    const size_t found = Find(text.view(), separator, pos);
    if (found == std::string_view::npos) break;
    parts.push_back(text.Substr(pos, found - pos));
    pos = found + separator.size();
  }
  parts.push_back(text.Substr(pos));
  return parts;
}

namespace {

// The last word that ends at `end` or before: [first, second); empty when
// there is none.
std::pair<size_t, size_t> LastWord(std::string_view text, size_t end) {
  const auto skip = [&](size_t pos, bool spaces) {
    while (pos > 0) {
      const size_t start = PreviousStart(text, pos);
      const char32_t c = DecodeUtf8(text, start).value;
      if ((c != kInvalidByte && IsPythonSpace(c)) != spaces) break;
      pos = start;
    }
    return pos;
  };
  end = skip(end, true);
  return {skip(end, false), end};
}

std::vector<Text> SplitAtSpacesFromRight(const Text& text, int64_t max_splits) {
  std::vector<Text> parts;
  size_t end = text.size();
  while (static_cast<int64_t>(parts.size()) < max_splits) {
    const auto [begin, word_end] = LastWord(text.view(), end);
    if (begin == word_end) return parts;
    parts.push_back(text.Substr(begin, word_end - begin));
    end = begin;
  }
  Text rest = Strip(text.Substr(0, end), "", false, true);
  if (!rest.empty()) parts.push_back(std::move(rest));
  return parts;
}

// Long separators are sought forwards, in a text and a needle turned round.
std::vector<Text> SplitAtFromRight(const Text& text, std::string_view separator,
                                   int64_t max_splits) {
  const std::string backward(text.view().rbegin(), text.view().rend());
  const std::string needle(separator.rbegin(), separator.rend());
  std::vector<Text> parts;
  size_t done = 0;  // bytes from the end
  while (static_cast<int64_t>(parts.size()) < max_splits) {
    const size_t found = Find(backward, needle, done);
    if (found == std::string_view::npos) break;
    parts.push_back(text.Substr(text.size() - found, found - done));
    done = found + needle.size();
  }
  parts.push_back(text.Substr(0, text.size() - done));
  return parts;
}

}  // namespace

std::vector<Text> SplitFromRight(const Text& text, std::string_view separator,
                                 int64_t max_splits) {
  if (max_splits < 0) return Split(text, separator, -1);
  std::vector<Text> parts = separator.empty()
                                ? SplitAtSpacesFromRight(text, max_splits)
                                : SplitAtFromRight(text, separator, max_splits);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<Text> SplitLines(const Text& text, bool keep_ends) {
  std::vector<Text> lines;
  const std::string_view view = text.view();
  size_t start = 0;
  for (size_t pos = 0; pos < view.size();) {
    const CodePoint c = DecodeUtf8(view, pos);
    const bool ends = (c.value >= 0x0A && c.value <= 0x0D) ||
                      (c.value >= 0x1C && c.value <= 0x1E) || c.value == 0x85 ||
                      c.value == 0x2028 || c.value == 0x2029;
    const size_t line_end = pos;
    pos += c.length;
    if (!ends) continue;
    if (c.value == '\r' && pos < view.size() && view[pos] == '\n') ++pos;
    lines.push_back(text.Substr(start, (keep_ends ? pos : line_end) - start));
    start = pos;
  }
  if (start < view.size()) lines.push_back(text.Substr(start));
  return lines;
}

std::vector<Text> Characters(const Text& text) {
  std::vector<Text> characters;
  for (size_t pos = 0; pos < text.size();) {
    const size_t length = DecodeUtf8(text.view(), pos).length;
    characters.push_back(text.Substr(pos, length));
    pos += length;
  }
  return characters;
}

int64_t CountCharacters(std::string_view text) {
  int64_t count = 0;
  for (size_t pos = 0; pos < text.size(); ++count) {
    pos += DecodeUtf8(text, pos).length;
  }
  return count;
}

size_t CharacterOffset(std::string_view text, int64_t index) {
  size_t pos = 0;
  for (; index > 0 && pos < text.size(); --index) {
    pos += DecodeUtf8(text, pos).length;
  }
  return pos;
}

Text ChangeCase(const Text& text, CaseChange change) {
  const auto& root = icu::Locale::getRoot();
  std::string out;
  bool word_start = true;
  if (change == CaseChange::kUpper || change == CaseChange::kLower) {
    auto wide = icu::UnicodeString::fromUTF8(text.bytes());
    (change == CaseChange::kUpper ? wide.toUpper(root) : wide.toLower(root))
        .toUTF8String(out);
    return Text(std::move(out), text.trusted());
  }
  for (size_t pos = 0; pos < text.size();) {
    const CodePoint c = DecodeUtf8(text.view(), pos);
    pos += c.length;
    if (c.value == kInvalidByte) {
      out += text.bytes()[pos - 1];
      continue;
    }
    const auto code = static_cast<UChar32>(c.value);
    AppendUtf8(
        static_cast<char32_t>(word_start ? u_totitle(code) : u_tolower(code)),
        &out);
    // Titles start after every character that has no case.
    word_start =
        change == CaseChange::kTitle && !u_hasBinaryProperty(code, UCHAR_CASED);
  }
  return Text(std::move(out), text.trusted());
}

}  // namespace conclave::engine
