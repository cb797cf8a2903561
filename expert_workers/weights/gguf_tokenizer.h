// The tokenizer inside a GGUF file's metadata.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_GGUF_TOKENIZER_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_GGUF_TOKENIZER_H_

#include "base/status.h"
#include "expert_workers/weights/gguf_file.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::weights {

//   INVALID_ARGUMENT  lists of different lengths, ids outside the vocabulary
//   UNIMPLEMENTED     another tokenizer or split rule; lists what there is
absl::StatusOr<TokenizerSpec> ReadGgufTokenizer(const GgufFile& file);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_GGUF_TOKENIZER_H_
