#include "expert_workers/tokenizer/byte_level_bpe.h"

#include <string>

#include "expert_workers/tokenizer/unicode.h"

namespace conclave::engine {

void ByteLevelBpe::EncodePlain(std::string_view text,
                               std::vector<int32_t>* ids) const {
  std::string normal;
  if (rule_ == SplitRule::kQwen2) {  // Qwen alone normalises its text.
    normal = NormalizeNfc(text);
    text = normal;
  }
  std::vector<std::string_view> words;
  words.reserve(text.size() / 4);
  SplitWords(rule_, text, &words);
  for (const std::string_view word : words) merger_->Encode(word, ids);
}

}  // namespace conclave::engine
