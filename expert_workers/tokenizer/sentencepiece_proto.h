// A SentencePiece vocabulary as the library's own ModelProto, and the checks
// that the library does not make.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_PROTO_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_PROTO_H_

#include <string>
#include <string_view>

#include "base/status.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::engine {

// Stands for a space in SentencePiece's tokens: U+2581.
inline constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

// The library reads past its buffers, recurses without bound or ends the
// process for some vocabularies; those are refused here.
//   INVALID_ARGUMENT  scores or an unknown token missing, tokens too long,
//                     empty, with NUL bytes, nested too deep
absl::Status CheckForSentencePiece(const weights::TokenizerSpec& spec);

// The serialized ModelProto (BPE) of a spec that passed the check. Control and
// unknown tokens get names that no text contains: whatever they are called in
// the model, they are never found in text.
std::string SentencePieceProto(const weights::TokenizerSpec& spec);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_SENTENCEPIECE_PROTO_H_
