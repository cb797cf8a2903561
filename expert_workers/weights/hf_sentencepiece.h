// SentencePiece vocabularies in the clothes of tokenizer.json: BPE over
// characters, spaces as U+2581, bytes as tokens.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_SENTENCEPIECE_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_SENTENCEPIECE_H_

#include "base/status.h"
#include "expert_workers/weights/json.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::weights {

// Whether tokenizer.json is of that kind.
bool IsSentencePieceJson(const Json& tokenizer);

// Turns `spec`, its tokens and types read, into SentencePiece: byte tokens,
// rules for spaces, and scores that order merges as the list does.
//   UNIMPLEMENTED  what SentencePiece would compute otherwise: a normaliser of
//                  another kind, or merges that leave out a way to build a
//                  token
absl::Status ReadSentencePieceJson(const Json& tokenizer, TokenizerSpec* spec);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_SENTENCEPIECE_H_
