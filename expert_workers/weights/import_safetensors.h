// Hugging Face folders as models: config.json, tokenizer.json or
// tokenizer.model, model.safetensors (or shards with their index), and, where
// present, tokenizer_config.json, generation_config.json and
// chat_template.jinja. Nothing else of the folder is read, and nothing is ever
// executed.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_IMPORT_SAFETENSORS_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_IMPORT_SAFETENSORS_H_

#include "base/status.h"
#include "expert_workers/weights/byte_source.h"
#include "expert_workers/weights/model_source.h"

namespace conclave::weights {

// Reads headers and settings, translates names to GGUF's, checks every tensor
// against the family.
//   INVALID_ARGUMENT  a file is missing, truncated, lying or not JSON; a
//                     tensor is missing or of another shape
//   UNIMPLEMENTED     architecture, dtype, tokenizer or RoPE variant; says
//                     what is supported
absl::StatusOr<ModelSource> OpenSafetensors(const Folder& folder);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_IMPORT_SAFETENSORS_H_
