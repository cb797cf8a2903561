// SentencePiece BPE with byte fallback (Gemma, Llama 2, the first Mistrals),
// by the sentencepiece library.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "expert_workers/tokenizer/sentencepiece_library.h"
#include "expert_workers/tokenizer/tokenizer.h"

namespace conclave::engine {

class SentencePiece final : public Tokenizer {
 public:
  //   INVALID_ARGUMENT     what CheckForSentencePiece or the library refuses
  //   FAILED_PRECONDITION  the library is not on this machine
  static absl::StatusOr<std::unique_ptr<SentencePiece>> Create(
      const weights::TokenizerSpec& spec);

  // The bytes that token `id` decodes to.
  static std::string BytesOf(const weights::TokenizerSpec& spec, size_t id);

 protected:
  void EncodePlain(std::string_view text,
                   std::vector<int32_t>* ids) const override;

 private:
  SentencePiece(std::unique_ptr<SentencePieceProcessor> processor,
                int32_t unk_id)
      : processor_(std::move(processor)), unk_id_(unk_id) {}

  const std::unique_ptr<SentencePieceProcessor> processor_;
  const int32_t unk_id_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_H_
