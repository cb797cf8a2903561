// Qwen3-MoE: Qwen3's attention and many small experts, eight of which compute
// a token.
#include "expert_workers/families/pre_norm_layer.h"

namespace conclave::families {
namespace {

struct Layer final : PreNormMoeLayer {
  Layer() : PreNormMoeLayer(Biases::kOptional, QkNorms::kEachHead) {}
};

constexpr HuggingFaceName kNames[] = {
    {"Qwen3MoeForCausalLM", Windows::kLateLayers, 4096}};

}  // namespace

extern const Family kQwen3Moe;
const Family kQwen3Moe = MoeFamily<Layer>({
    .architecture = "qwen3moe",
    .hugging_face = kNames,
    .head_dim = 128,
    .renormalizes = true,  // in GGUF files, which do not say it
    .hf_says_renormalize = true,
});

}  // namespace conclave::families
