#include "router_service/embed/normal_text.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

namespace conclave::router {
namespace {

enum class Kind : uint8_t { kSpace, kWord, kWordAlone, kOther };

constexpr std::array<Kind, 128> kAsciiKind = [] {
  std::array<Kind, 128> kinds{};
  for (int c = 0; c < 128; ++c) {
    const bool word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                      (c >= 'A' && c <= 'Z') || c == '_';
    kinds[c] = word                     ? Kind::kWord
               : (c <= ' ' || c == 127) ? Kind::kSpace
                                        : Kind::kOther;
  }
  return kinds;
}();

Kind KindOf(UChar32 c) {
  if (u_isUWhiteSpace(c) || u_iscntrl(c)) return Kind::kSpace;
  // Hiragana and katakana, then every ideograph.
  if ((c >= 0x3041 && c <= 0x30ff) ||
      u_hasBinaryProperty(c, UCHAR_IDEOGRAPHIC)) {
    return Kind::kWordAlone;
  }
  const bool mark = (U_GET_GC_MASK(c) & U_GC_M_MASK) != 0;
  return u_isalnum(c) || mark ? Kind::kWord : Kind::kOther;
}

class Builder {
 public:
  explicit Builder(size_t size) {
    out_.bytes.reserve(size + 2);
    out_.starts.reserve(size + 3);
    out_.word_spans.reserve(size / 5 + 1);
  }

  void Add(UChar32 c, Kind kind) {
    if (kind == Kind::kSpace) {
      EndWord();
      space_pending_ = true;
      return;
    }
    if (space_pending_) AppendByte(' ');
    space_pending_ = false;
    if (kind != Kind::kWord) EndWord();
    const auto begin = static_cast<uint32_t>(out_.bytes.size());
    if (c < 128) {
      AppendByte(static_cast<char>(c));
    } else {
      out_.starts.push_back(begin);
      std::array<char, U8_MAX_LENGTH> utf8;
      int32_t length = 0;
      U8_APPEND_UNSAFE(utf8.data(), length, c);
      out_.bytes.append(utf8.data(), length);
    }
    const auto end = static_cast<uint32_t>(out_.bytes.size());
    if (kind == Kind::kWordAlone) out_.word_spans.push_back({begin, end});
    if (kind == Kind::kWord) {
      if (!in_word_) out_.word_spans.push_back({begin, end});
      in_word_ = true;
      out_.word_spans.back().end = end;
    }
  }

  NormalText Finish() && {
    if (!out_.bytes.empty()) AppendByte(' ');
    out_.starts.push_back(static_cast<uint32_t>(out_.bytes.size()));
    return std::move(out_);
  }

 private:
  void EndWord() { in_word_ = false; }
  void AppendByte(char byte) {
    out_.starts.push_back(static_cast<uint32_t>(out_.bytes.size()));
    out_.bytes.push_back(byte);
  }

  NormalText out_;
  bool space_pending_ = true;  // so that the text begins with one
  bool in_word_ = false;
};

bool IsAscii(std::string_view text) {
  size_t i = 0;
  uint64_t seen = 0;
  for (; i + 8 <= text.size(); i += 8) {
    uint64_t eight = 0;
    std::memcpy(&eight, text.data() + i, 8);
    seen |= eight;
  }
  for (; i < text.size(); ++i) seen |= static_cast<uint8_t>(text[i]);
  return (seen & 0x8080808080808080ull) == 0;
}

// What Builder makes of it, with a byte for a character. Where words end cannot
// be predicted, so nothing branches on it: every value is written, and the
// place to write moves on when it counts.
NormalText NormalizeAscii(std::string_view text) {
  NormalText out;
  out.bytes.resize(text.size() + 2);
  out.word_spans.resize(text.size() / 2 + 2);
  char* const bytes = out.bytes.data();
  NormalText::Span* const spans = out.word_spans.data();
  bytes[0] = ' ';
  uint32_t at = 1, begun = 0, ended = 0;  // words
  bool in_space = true, in_word = false;
  for (const char c : text) {
    const Kind kind = kAsciiKind[static_cast<uint8_t>(c)];
    const bool space = kind == Kind::kSpace, word = kind == Kind::kWord;
    const bool upper = c >= 'A' && c <= 'Z';
    bytes[at] = space ? ' ' : static_cast<char>(upper ? c + ('a' - 'A') : c);
    spans[begun].begin = at;
    spans[ended].end = at;
    begun += word && !in_word;
    ended += !word && in_word;
    at += !(space && in_space);
    in_space = space;
    in_word = word;
  }
  if (in_word) spans[ended].end = at;
  if (!in_space) bytes[at++] = ' ';
  if (at == 1) at = 0;  // nothing visible
  out.bytes.resize(at);
  out.word_spans.resize(begun);
  out.starts.resize(at + 1);
  std::iota(out.starts.begin(), out.starts.end(), 0u);
  return out;
}

}  // namespace

NormalText Normalize(std::string_view text) {
  // 32-bit offsets: the gateway's body limit is far below, and a folded
  // character is at most U8_MAX_LENGTH bytes for each byte read.
  constexpr size_t kMaxBytes = size_t{1} << 29;
  text = text.substr(0, kMaxBytes);
  if (IsAscii(text)) return NormalizeAscii(text);
  Builder builder(text.size());
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  const auto size = static_cast<int32_t>(text.size());
  for (int32_t i = 0; i < size;) {
    if (bytes[i] < 128) {
      const char c = text[i++];
      const bool upper = c >= 'A' && c <= 'Z';
      builder.Add(upper ? c + ('a' - 'A') : c, kAsciiKind[c]);
      continue;
    }
    UChar32 c = 0;
    U8_NEXT(bytes, i, size, c);
    if (c < 0) c = 0xfffd;
    c = u_foldCase(c, U_FOLD_CASE_DEFAULT);
    builder.Add(c, KindOf(c));
  }
  return std::move(builder).Finish();
}

}  // namespace conclave::router
