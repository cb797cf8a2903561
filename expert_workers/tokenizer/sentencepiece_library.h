// The sentencepiece library, opened on first use and kept.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_LIBRARY_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_LIBRARY_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace conclave::engine {

// One vocabulary in the library.
// Threads: Encode may run concurrently.
class SentencePieceProcessor {
 public:
  // `proto` is a serialized ModelProto that CheckForSentencePiece would let
  // through: the library trusts its models.
  //   INVALID_ARGUMENT     the library refuses it; says why
  //   FAILED_PRECONDITION  the library is not on this machine
  static absl::StatusOr<std::unique_ptr<SentencePieceProcessor>> Create(
      std::string_view proto);
  ~SentencePieceProcessor();
  SentencePieceProcessor(const SentencePieceProcessor&) = delete;
  SentencePieceProcessor& operator=(const SentencePieceProcessor&) = delete;

  // Appends the ids of `text`.
  //   INTERNAL  the library failed; nothing was appended
  absl::Status Encode(std::string_view text, std::vector<int32_t>* ids) const;

 private:
  explicit SentencePieceProcessor(void* processor) : processor_(processor) {}
  void* const processor_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_LIBRARY_H_
