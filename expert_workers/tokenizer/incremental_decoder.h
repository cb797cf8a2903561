// Tokens to text, one at a time: characters that stand across token borders
// come out whole.
#ifndef CONCLAVE_EXPERT_WORKERS_TOKENIZER_INCREMENTAL_DECODER_H_
#define CONCLAVE_EXPERT_WORKERS_TOKENIZER_INCREMENTAL_DECODER_H_

#include <cstdint>
#include <string>

#include "expert_workers/tokenizer/tokenizer.h"

namespace conclave::engine {

// One per stream; not thread-safe. The tokenizer outlives it. All texts
// joined equal Tokenizer::Decode of all ids.
class IncrementalDecoder {
 public:
  explicit IncrementalDecoder(const Tokenizer& tokenizer,
                              bool with_control = false)
      : tokenizer_(tokenizer), with_control_(with_control) {}

  // The text that became certain with `id`: valid UTF-8, possibly empty. At
  // most three bytes are held back.
  std::string Push(int32_t id);

  // What was held back, as U+FFFD: a character that was never completed.
  std::string Finish();

 private:
  const Tokenizer& tokenizer_;
  bool with_control_;
  std::string pending_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_TOKENIZER_INCREMENTAL_DECODER_H_
