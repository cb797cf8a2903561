// The families of models that can be imported: for each, which tensors it has
// and of which shape. To add one, add its table in model_family.cc.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_MODEL_FAMILY_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_MODEL_FAMILY_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "expert_workers/weights/model_source.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::weights {

// A side of a tensor, as a hyperparameter.
enum class Side {
  kOne,  // rows of a vector
  kHidden,
  kQuery,     // num_heads * head_dim
  kKeyValue,  // num_kv_heads * head_dim
  kFfn,
  kVocab,
  kContext,
  kRopePairs,   // head_dim / 2
  kTokenTypes,  // 1..16, whatever the file has
};

struct TensorRule {
  std::string_view name;  // after "blk.N." for a layer's
  Side rows;
  Side cols;
  bool optional = false;
  // Holds rows that RoPE turns (attn_q, attn_k).
  bool roped = false;
};

struct Family {
  std::string_view architecture;  // "llama"
  // config.json's name for it.
  std::string_view hugging_face;  // "LlamaForCausalLM"
  std::span<const TensorRule> embedding;
  std::span<const TensorRule> layer;
  std::span<const TensorRule> head;
  // GGUF files of this architecture are read, and whether they hold Q and K
  // rows for interleaved RoPE.
  bool in_gguf = false;
  bool gguf_interleaves_rope = false;
};

// nullptr when there is none.
const Family* FindFamily(std::string_view architecture);
const Family* FindHuggingFaceFamily(std::string_view name);
// "llama, qwen2": what a refusal lists.
std::string GgufArchitectures();
std::string HuggingFaceArchitectures();

// Refuses hyperparameters that no model has: everything later may multiply
// them without overflow.
//   INVALID_ARGUMENT  names the value and the range
absl::Status CheckHyperparameters(const ModelHyperparameters& model);

// Sorts `tensors` (named GGUF's way, any order) into units, each in its
// table's order.
//   INVALID_ARGUMENT  a tensor is missing, or has another shape: both shapes
//   UNIMPLEMENTED     a tensor that the family does not have: dropping it in
//                     silence would change what the model says
absl::StatusOr<std::vector<UnitSource>> SortIntoUnits(
    const Family& family, const ModelHyperparameters& model,
    std::vector<SourceTensor> tensors);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_MODEL_FAMILY_H_
