// tokenizer.json (and what tokenizer_config.json adds) as a TokenizerSpec.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_TOKENIZER_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_TOKENIZER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "expert_workers/weights/json.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::weights {

// Byte-level BPE, WordPiece, and SentencePiece's BPE as tokenizer.json holds
// it. Ids from the vocabulary's size to `vocab_size`
// become unused tokens "[PAD<id>]", as in GGUF: embeddings are often padded.
//   settings  tokenizer_config.json, or an empty object
//   INVALID_ARGUMENT  ids with holes, twice or out of range; malformed merges
//   UNIMPLEMENTED     another model or split rule; lists what there is
absl::StatusOr<TokenizerSpec> ReadHfTokenizer(const Json& tokenizer,
                                              const Json& settings,
                                              int64_t vocab_size);

// A folder's tokenizer.model, with what tokenizer.json and the settings add.
//   json  tokenizer.json, or an empty object
absl::StatusOr<TokenizerSpec> ReadHfSentencePiece(std::string_view file,
                                                  const Json& json,
                                                  const Json& settings,
                                                  int64_t vocab_size);

// "merges" of tokenizer.json's model as "left right", from either of the two
// ways they are written.
absl::StatusOr<std::vector<std::string>> ReadMerges(const Json& model);

// "chat_template" of tokenizer_config.json: a string, or a list of named ones
// of which "default" is taken. "" when there is none.
std::string ChatTemplateOf(const Json& settings);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_TOKENIZER_H_
