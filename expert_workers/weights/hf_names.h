// Hugging Face tensor names in GGUF's words.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_NAMES_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_NAMES_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "expert_workers/families/family.h"

namespace conclave::weights {

class HfNames {
 public:
  explicit HfNames(const families::Family& family);

  // "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight".
  // "model.layers.3.mlp.experts.5.up_proj.weight" ->
  // "blk.3.expert.5.ffn_up_exps.weight".
  //   ""       a tensor that inference does not use (position ids, the pooler)
  //   nothing  a name that the family does not have
  std::optional<std::string> Translate(std::string_view name) const;

 private:
  const families::Family& family_;
  // Hugging Face's -> GGUF's, the layers' after their number.
  std::map<std::string_view, std::string_view> model_;
  std::map<std::string_view, std::string_view> layer_;
  // After an expert's number.
  std::map<std::string_view, std::string_view> expert_;

  std::optional<std::string> TranslateExpert(std::string_view name) const;
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_HF_NAMES_H_
