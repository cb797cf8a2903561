// What importers know about tokenizers beyond what a file says.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_TOKENIZER_FACTS_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_TOKENIZER_FACTS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::weights {

// The split rule that a GGUF `tokenizer.ggml.pre` names.
//   UNIMPLEMENTED  lists the rules there are
absl::StatusOr<std::string> SplitRuleOfGguf(std::string_view pre);

// The split rule that a tokenizer.json's regular expression is.
//   UNIMPLEMENTED  quotes it
absl::StatusOr<std::string> SplitRuleOfRegex(std::string_view pattern);

// Adds the control tokens that end a turn in one of the known templates
// (<|im_end|>, <|eot_id|> ..) to end_of_turn_ids, leaves eos_id out of it, and
// sorts it.
void AddEndOfTurnIds(TokenizerSpec* tokenizer);

// The id of a token by its text; -1 when there is none.
int32_t FindToken(const TokenizerSpec& tokenizer, std::string_view text);

// Appends unused tokens "[PAD<id>]" up to `vocab_size`: embeddings are often
// padded, and GGUF writes the vocabulary so.
void PadVocabulary(int64_t vocab_size, TokenizerSpec* tokenizer);

// Every id inside the vocabulary, lists of one length, merges well formed.
absl::Status CheckTokenizer(const TokenizerSpec& tokenizer);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_TOKENIZER_FACTS_H_
