// Hugging Face tensor names in GGUF's words.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_NAMES_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_NAMES_H_

#include <optional>
#include <string>
#include <string_view>

#include "expert_workers/weights/model_family.h"

namespace conclave::weights {

// "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight".
//   ""       a tensor that inference does not use (position ids, the pooler)
//   nothing  a name that the family does not have
std::optional<std::string> TranslateHfName(const Family& family,
                                           std::string_view name);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_NAMES_H_
