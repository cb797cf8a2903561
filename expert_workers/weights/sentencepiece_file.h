// tokenizer.model: a SentencePiece ModelProto, as a TokenizerSpec.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_SENTENCEPIECE_FILE_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_SENTENCEPIECE_FILE_H_

#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::weights {

// Ids from the file's vocabulary to `vocab_size` become unused tokens.
//   INVALID_ARGUMENT  truncated or malformed; more tokens than vocab_size
//   UNIMPLEMENTED     another algorithm than BPE; normalisation rules
absl::StatusOr<TokenizerSpec> ReadSentencePieceFile(std::string_view file,
                                                    int64_t vocab_size);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_SENTENCEPIECE_FILE_H_
