// GGUF v3 files as models.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_IMPORT_GGUF_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_IMPORT_GGUF_H_

#include <memory>

#include "base/status.h"
#include "expert_workers/weights/byte_source.h"
#include "expert_workers/weights/model_source.h"

namespace conclave::weights {

// Reads header and metadata, checks every tensor against the family.
//   INVALID_ARGUMENT  not GGUF, truncated, lying; a tensor missing or of
//                     another shape
//   UNIMPLEMENTED     architecture, tensor type, tokenizer or RoPE variant;
//                     says what is supported
absl::StatusOr<ModelSource> OpenGguf(std::shared_ptr<ByteSource> file);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_IMPORT_GGUF_H_
