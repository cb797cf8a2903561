// WordPiece as BERT's uncased and cased encoders use it: clean, pad CJK,
// strip accents and fold case (uncased), split at spaces and punctuation, then
// the longest known piece first.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_WORDPIECE_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_WORDPIECE_H_

#include <absl/container/flat_hash_map.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "expert_workers/tokenizer/tokenizer.h"

namespace conclave::engine {

class WordPiece final : public Tokenizer {
 public:
  //   INVALID_ARGUMENT  tokens alike; no [UNK]
  static absl::StatusOr<std::unique_ptr<WordPiece>> Create(
      const weights::TokenizerSpec& spec);

 protected:
  void EncodePlain(std::string_view text,
                   std::vector<int32_t>* ids) const override;

 private:
  WordPiece() = default;
  std::string Clean(std::string_view text) const;
  void EncodeWord(std::string_view word, std::vector<int32_t>* ids) const;

  absl::flat_hash_map<std::string, int32_t> starts_;     // "play"
  absl::flat_hash_map<std::string, int32_t> continues_;  // "ing" of "##ing"
  size_t longest_ = 0;  // bytes of the longest piece
  int32_t unk_id_ = -1;
  bool lowercase_ = false;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_WORDPIECE_H_
