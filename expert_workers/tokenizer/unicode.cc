#include "expert_workers/tokenizer/unicode.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>

#include <memory>

#include "base/check.h"

namespace conclave::engine {
namespace {

constexpr char32_t kBmpEnd = 0x10000;

CharClass ClassifySlow(char32_t c) {
  const auto code = static_cast<UChar32>(c);
  if (u_isUWhiteSpace(code)) return CharClass::kSpace;
  const uint32_t mask = U_GET_GC_MASK(code);
  if (mask & U_GC_L_MASK) return CharClass::kLetter;
  if (mask & U_GC_N_MASK) return CharClass::kNumber;
  return CharClass::kOther;
}

// The basic plane's classes, one byte each: ICU's look-ups are function calls
// and every character of every prompt is classified.
const CharClass* BmpClasses() {
  static const std::unique_ptr<CharClass[]> table = [] {
    auto classes = std::make_unique<CharClass[]>(kBmpEnd);
    for (char32_t c = 0; c < kBmpEnd; ++c) classes[c] = ClassifySlow(c);
    return classes;
  }();
  return table.get();
}

bool IsContinuation(std::string_view text, size_t pos) {
  return pos < text.size() && (static_cast<uint8_t>(text[pos]) & 0xC0) == 0x80;
}

// How many bytes from `pos` form a valid sequence or the longest valid start
// of one (at least 1); `*complete` says which.
size_t MaximalSubpart(std::string_view text, size_t pos, bool* complete) {
  const auto first = static_cast<uint8_t>(text[pos]);
  size_t need = 0;
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  *complete = false;
  if (first < 0x80) {
    *complete = true;
    return 1;
  }
  if (first >= 0xC2 && first <= 0xDF) {
    need = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    need = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    need = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return 1;
  }
  if (pos + 1 >= text.size()) return 1;
  const auto second = static_cast<uint8_t>(text[pos + 1]);
  if (second < low || second > high) return 1;
  size_t length = 2;
  while (length < need && IsContinuation(text, pos + length)) ++length;
  *complete = length == need;
  return length;
}

const icu::Normalizer2& Normalizer(bool compose) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer =
      compose ? icu::Normalizer2::getNFCInstance(error)
              : icu::Normalizer2::getNFDInstance(error);
  CHECK(U_SUCCESS(error), "ICU has no normalisation data: {}",
        u_errorName(error));
  return *normalizer;
}

void AppendNormalized(const icu::Normalizer2& normalizer,
                      std::string_view valid, std::string* out) {
  if (valid.empty()) return;
  icu::StringByteSink<std::string> sink(out);
  UErrorCode error = U_ZERO_ERROR;
  normalizer.normalizeUTF8(
      0, icu::StringPiece(valid.data(), static_cast<int32_t>(valid.size())),
      sink, nullptr, error);
  CHECK(U_SUCCESS(error), "ICU: {}", u_errorName(error));
}

std::string Normalize(std::string_view text, bool compose) {
  constexpr size_t kMaxMarks = 1024;
  // ICU counts in int32; longer stretches go in parts (cut as marks are).
  constexpr size_t kMaxStretch = size_t{1} << 28;
  size_t pos = 0;
  while (pos < text.size() && static_cast<uint8_t>(text[pos]) < 0x80) ++pos;
  if (pos == text.size()) return std::string(text);  // ASCII is normal.
  const icu::Normalizer2& normalizer = Normalizer(compose);
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  size_t start = 0;
  size_t marks = 0;
  while (pos < text.size()) {
    const CodePoint c = DecodeUtf8(text, pos);
    if (c.value == kInvalidByte) {
      AppendNormalized(normalizer, text.substr(start, pos - start), &out);
      out += text[pos];
      start = pos + 1;
      marks = 0;
    } else if (c.value >= 0x300 &&
               u_getCombiningClass(static_cast<UChar32>(c.value)) != 0) {
      ++marks;
    } else {
      marks = 0;
    }
    pos += c.length;
    if (marks == kMaxMarks || pos - start >= kMaxStretch) {
      AppendNormalized(normalizer, text.substr(start, pos - start), &out);
      start = pos;
      marks = 0;
    }
  }
  AppendNormalized(normalizer, text.substr(start), &out);
  return out;
}

}  // namespace

CodePoint DecodeUtf8(std::string_view text, size_t pos) {
  const auto first = static_cast<uint8_t>(text[pos]);
  if (first < 0x80) return {first, 1};
  bool complete = false;
  const size_t length = MaximalSubpart(text, pos, &complete);
  if (!complete) return {kInvalidByte, 1};
  // The lead byte keeps 5, 4 or 3 value bits at lengths 2, 3, 4.
  char32_t value = first & (0xFFu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    value = (value << 6) | (static_cast<uint8_t>(text[pos + i]) & 0x3F);
  }
  return {value, static_cast<uint8_t>(length)};
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    *out += static_cast<char>(c);
  } else if (c < 0x800) {
    *out += static_cast<char>(0xC0 | (c >> 6));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    *out += static_cast<char>(0xE0 | (c >> 12));
    *out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    *out += static_cast<char>(0xF0 | (c >> 18));
    *out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    *out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    *out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

CharClass Classify(char32_t c) {
  static const CharClass* const bmp = BmpClasses();
  if (c < kBmpEnd) return bmp[c];
  if (c == kInvalidByte) return CharClass::kOther;
  return ClassifySlow(c);
}

std::string NormalizeNfc(std::string_view text) {
  return Normalize(text, /*compose=*/true);
}

std::string NormalizeNfd(std::string_view text) {
  return Normalize(text, /*compose=*/false);
}

std::string ToValidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    bool complete = false;
    const size_t length = MaximalSubpart(text, pos, &complete);
    if (complete) {
      out.append(text.substr(pos, length));
    } else {
      out += "\xEF\xBF\xBD";
    }
    pos += length;
  }
  return out;
}

size_t IncompleteSuffix(std::string_view text) {
  const size_t longest = text.size() < 3 ? text.size() : 3;
  for (size_t back = 1; back <= longest; ++back) {
    const size_t pos = text.size() - back;
    const auto byte = static_cast<uint8_t>(text[pos]);
    if ((byte & 0xC0) == 0x80) continue;  // a continuation: look further back
    if (byte < 0xC2 || byte > 0xF4) return 0;
    bool complete = false;
    const size_t length = MaximalSubpart(text, pos, &complete);
    return !complete && length == back ? back : 0;
  }
  return 0;
}

}  // namespace conclave::engine
