#include "expert_workers/tokenizer/pretokenize.h"

#include <cstddef>
#include <cstdint>

#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {
namespace {

// One character with its class.
struct Char {
  char32_t value;
  uint8_t length;
  CharClass kind;
};

Char CharAt(std::string_view text, size_t pos) {
  const CodePoint c = DecodeUtf8(text, pos);
  return {c.value, c.length, Classify(c.value)};
}

// The end of the run of `kind` that starts at `pos`.
size_t RunEnd(std::string_view text, size_t pos, CharClass kind) {
  while (pos < text.size()) {
    const Char c = CharAt(text, pos);
    if (c.kind != kind) break;
    pos += c.length;
  }
  return pos;
}

// The length of 's 't 're 've 'm 'll 'd at text[pos] == '\'', or 0. Folding
// case makes U+017F (long s) an s, as the reference engine does.
size_t ContractionLength(std::string_view text, size_t pos, bool fold_case) {
  const auto at = [&](size_t i) -> char {
    if (i >= text.size()) return '\0';
    const char c = text[i];
    return fold_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  };
  const char first = at(pos + 1);
  const char second = at(pos + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  if (fold_case && text.substr(pos + 1, 2) == "\xC5\xBF") return 3;
  return 0;
}

// \s+(?!\S)|\s+ : a run of spaces leaves its last character to the next word,
// unless the text ends or it is the only one.
size_t SpaceEnd(std::string_view text, size_t pos) {
  size_t last = pos;
  size_t end = pos;
  while (end < text.size()) {
    const Char c = CharAt(text, end);
    if (c.kind != CharClass::kSpace) break;
    last = end;
    end += c.length;
  }
  if (end == text.size() || last == pos) return end;
  return last;
}

size_t Gpt2End(std::string_view text, size_t pos) {
  const Char c = CharAt(text, pos);
  if (c.value == U'\'') {
    const size_t length = ContractionLength(text, pos, /*fold_case=*/false);
    if (length != 0) return pos + length;
  }
  if (c.kind != CharClass::kSpace) return RunEnd(text, pos, c.kind);
  if (c.value == U' ' && pos + 1 < text.size()) {
    const Char next = CharAt(text, pos + 1);
    if (next.kind != CharClass::kSpace) {
      return RunEnd(text, pos + 1, next.kind);
    }
  }
  return SpaceEnd(text, pos);
}

size_t NewlinesEnd(std::string_view text, size_t pos) {
  while (pos < text.size() && (text[pos] == '\r' || text[pos] == '\n')) ++pos;
  return pos;
}

// \s*[\r\n]+ : through the last newline of the run of spaces, or `pos` when
// it has none.
size_t NewlineRunEnd(std::string_view text, size_t pos) {
  size_t end = pos;
  while (pos < text.size()) {
    const Char c = CharAt(text, pos);
    if (c.kind != CharClass::kSpace) break;
    pos += c.length;
    if (c.value == U'\r' || c.value == U'\n') end = pos;
  }
  return end;
}

size_t DigitsEnd(std::string_view text, size_t pos, int max_digits) {
  for (int i = 0; i < max_digits && pos < text.size(); ++i) {
    const Char c = CharAt(text, pos);
    if (c.kind != CharClass::kNumber) break;
    pos += c.length;
  }
  return pos;
}

size_t Qwen2End(std::string_view text, size_t pos, int max_digits) {
  const Char c = CharAt(text, pos);
  if (c.value == U'\'') {
    const size_t length = ContractionLength(text, pos, /*fold_case=*/true);
    if (length != 0) return pos + length;
  }
  if (c.kind == CharClass::kLetter) {
    return RunEnd(text, pos, CharClass::kLetter);
  }
  if (c.kind == CharClass::kNumber) return DigitsEnd(text, pos, max_digits);
  const size_t after = pos + c.length;
  const bool newline = c.value == U'\r' || c.value == U'\n';
  const CharClass next =
      after < text.size() ? CharAt(text, after).kind : CharClass::kSpace;
  if (!newline && next == CharClass::kLetter) {
    return RunEnd(text, after, CharClass::kLetter);
  }
  if (c.kind == CharClass::kOther) {
    return NewlinesEnd(text, RunEnd(text, pos, CharClass::kOther));
  }
  if (c.value == U' ' && next == CharClass::kOther) {
    return NewlinesEnd(text, RunEnd(text, after, CharClass::kOther));
  }
  const size_t newlines = NewlineRunEnd(text, pos);
  return newlines != pos ? newlines : SpaceEnd(text, pos);
}

void SplitGpt2(std::string_view text, std::vector<std::string_view>* words) {
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = Gpt2End(text, pos);
    words->push_back(text.substr(pos, end - pos));
    pos = end;
  }
}

void SplitSmolLm(std::string_view text, std::vector<std::string_view>* words) {
  size_t start = 0;
  for (size_t pos = 0; pos < text.size();) {
    const Char c = CharAt(text, pos);
    if (c.kind == CharClass::kNumber) {
      SplitGpt2(text.substr(start, pos - start), words);
      words->push_back(text.substr(pos, c.length));
      start = pos + c.length;
    }
    pos += c.length;
  }
  SplitGpt2(text.substr(start), words);
}

}  // namespace

std::optional<SplitRule> SplitRuleFromName(std::string_view name) {
  if (name == "gpt2" || name == "gpt-2") return SplitRule::kGpt2;
  if (name == "smollm") return SplitRule::kSmolLm;
  if (name == "qwen2" || name == "deepseek-r1-qwen") return SplitRule::kQwen2;
  if (name == "llama-bpe" || name == "llama3" || name == "llama-v3") {
    return SplitRule::kLlamaBpe;
  }
  return std::nullopt;
}

void SplitWords(SplitRule rule, std::string_view text,
                std::vector<std::string_view>* words) {
  if (rule == SplitRule::kGpt2) return SplitGpt2(text, words);
  if (rule == SplitRule::kSmolLm) return SplitSmolLm(text, words);
  const int max_digits = rule == SplitRule::kLlamaBpe ? 3 : 1;
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = Qwen2End(text, pos, max_digits);
    words->push_back(text.substr(pos, end - pos));
    pos = end;
  }
}

}  // namespace conclave::engine
