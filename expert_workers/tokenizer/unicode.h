// The little Unicode that tokenizers need, on UTF-8 bytes. Invalid bytes are
// never an error: each counts as one character of class kOther.
//
// Properties come from ICU (72: Unicode 15.0).
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_UNICODE_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace conclave::engine {

// What the split rules ask of a character: \p{L}, \p{N}, \s, or none of them.
enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };

struct CodePoint {
  char32_t value;  // kInvalidByte when the byte starts no valid sequence
  uint8_t length;  // bytes, 1..4
};
inline constexpr char32_t kInvalidByte = 0xFFFFFFFF;

// The character at text[pos]; pos < text.size(). Overlong forms, surrogates
// and values beyond U+10FFFF are invalid.
CodePoint DecodeUtf8(std::string_view text, size_t pos);

void AppendUtf8(char32_t c, std::string* out);

CharClass Classify(char32_t c);

// Unicode normalisation of the valid stretches of `text`. Runs of more than
// 1024 combining marks are normalised 1024 at a time: reordering a run costs
// its length squared, and no real text has such a run.
std::string NormalizeNfc(std::string_view text);
std::string NormalizeNfd(std::string_view text);

// `text` with every invalid byte sequence as U+FFFD (one per maximal
// subpart, as Python and the web do).
std::string ToValidUtf8(std::string_view text);

// Bytes at the end of `text` that begin a sequence which later bytes could
// complete: 0..3. A decoder holds them back.
size_t IncompleteSuffix(std::string_view text);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_UNICODE_H_
