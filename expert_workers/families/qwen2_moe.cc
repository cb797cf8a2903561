// Qwen2-MoE: Qwen2's attention, small experts, and a shared one that every
// token uses, weighed by a sigmoid of its own.
#include "expert_workers/families/pre_norm_layer.h"

namespace conclave::families {
namespace {

struct Layer final : PreNormMoeLayer {
  Layer()
      : PreNormMoeLayer(Biases::kOnQkv, QkNorms::kNone, SharedExpert::kGated) {}
};

constexpr HuggingFaceName kNames[] = {
    {"Qwen2MoeForCausalLM", Windows::kLateLayers, 4096}};

}  // namespace

extern const Family kQwen2Moe;
const Family kQwen2Moe = MoeFamily<Layer>({
    .architecture = "qwen2moe",
    .hugging_face = kNames,
    .hf_says_renormalize = true,
});

}  // namespace conclave::families
