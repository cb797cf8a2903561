#include "expert_workers/tokenizer/wordpiece.h"

#include <absl/strings/string_view.h>
#include <unicode/uchar.h>

#include <algorithm>

#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {
namespace {

// BERT gives up on longer words. Characters, not bytes.
constexpr int kMaxWordChars = 100;

bool IsCjk(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

bool IsPunctuation(char32_t c) {
  if (c < 0x80) {
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) ||
           (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  }
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & U_GC_P_MASK) != 0;
}

bool IsDropped(char32_t c) {
  if (c == 0 || c == 0xFFFD || c == kInvalidByte) return true;
  if (c == U'\t' || c == U'\n' || c == U'\r') return false;
  constexpr uint32_t kOther =
      U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK | U_GC_CS_MASK;
  return (U_GET_GC_MASK(static_cast<UChar32>(c)) & kOther) != 0;
}

bool IsAccent(char32_t c) {
  return c >= 0x300 &&
         u_charType(static_cast<UChar32>(c)) == U_NON_SPACING_MARK;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WordPiece>> WordPiece::Create(
    const weights::TokenizerSpec& spec) {
  auto tokenizer = std::unique_ptr<WordPiece>(new WordPiece);
  tokenizer->lowercase_ = spec.lowercase;
  tokenizer->unk_id_ = spec.unk_id;
  if (spec.unk_id < 0) return InvalidArgument("WordPiece needs an unk_id");
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    // Only words may come out of text: [CLS] typed by a user is punctuation.
    const bool framing = static_cast<int32_t>(id) == spec.cls_id ||
                         static_cast<int32_t>(id) == spec.sep_id ||
                         static_cast<int32_t>(id) == spec.pad_id;
    if (framing || spec.types[id] != weights::TokenType::kNormal) continue;
    std::string_view text = spec.tokens[id];
    const bool continues = text.size() > 2 && text.starts_with("##");
    if (continues) text.remove_prefix(2);
    if (text.empty()) continue;
    auto& map = continues ? tokenizer->continues_ : tokenizer->starts_;
    if (!map.try_emplace(std::string(text), static_cast<int32_t>(id)).second) {
      return InvalidArgument("token {} stands twice in the vocabulary", id);
    }
    tokenizer->longest_ = std::max(tokenizer->longest_, text.size());
  }
  return tokenizer;
}

std::string WordPiece::Clean(std::string_view text) const {
  std::string clean;
  clean.reserve(text.size() + 16);
  for (size_t pos = 0; pos < text.size();) {
    const CodePoint c = DecodeUtf8(text, pos);
    pos += c.length;
    if (IsDropped(c.value)) continue;
    if (Classify(c.value) == CharClass::kSpace) {
      clean += ' ';
    } else if (IsCjk(c.value)) {
      clean += ' ';
      AppendUtf8(c.value, &clean);
      clean += ' ';
    } else {
      AppendUtf8(c.value, &clean);
    }
  }
  if (!lowercase_) return clean;
  const std::string decomposed = NormalizeNfd(clean);
  std::string folded;
  folded.reserve(decomposed.size());
  for (size_t pos = 0; pos < decomposed.size();) {
    const CodePoint c = DecodeUtf8(decomposed, pos);
    pos += c.length;
    if (IsAccent(c.value)) continue;
    AppendUtf8(static_cast<char32_t>(u_tolower(static_cast<UChar32>(c.value))),
               &folded);
  }
  return folded;
}

void WordPiece::EncodePlain(std::string_view text,
                            std::vector<int32_t>* ids) const {
  const std::string clean = Clean(text);
  const std::string_view view = clean;
  size_t start = 0;
  for (size_t pos = 0; pos < view.size();) {
    const CodePoint c = DecodeUtf8(view, pos);
    const bool space = Classify(c.value) == CharClass::kSpace;
    if (space || IsPunctuation(c.value)) {
      EncodeWord(view.substr(start, pos - start), ids);
      if (!space) EncodeWord(view.substr(pos, c.length), ids);
      start = pos + c.length;
    }
    pos += c.length;
  }
  EncodeWord(view.substr(start), ids);
}

void WordPiece::EncodeWord(std::string_view word,
                           std::vector<int32_t>* ids) const {
  if (word.empty()) return;
  int chars = 0;
  for (const char c : word) {
    if ((static_cast<uint8_t>(c) & 0xC0) != 0x80 && ++chars > kMaxWordChars) {
      return ids->push_back(unk_id_);
    }
  }
  const size_t before = ids->size();
  for (size_t start = 0; start < word.size();) {
    const auto& map = start == 0 ? starts_ : continues_;
    size_t length = std::min(word.size() - start, longest_);
    for (; length > 0; --length) {
      const auto found =
          map.find(absl::string_view(word.data() + start, length));
      if (found == map.end()) continue;
      ids->push_back(found->second);
      break;
    }
    if (length == 0) {  // One unknown piece makes the word unknown.
      ids->resize(before);
      return ids->push_back(unk_id_);
    }
    start += length;
  }
}

}  // namespace conclave::engine
