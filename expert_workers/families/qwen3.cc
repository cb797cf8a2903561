// Qwen3: Llama's layer with each head of q and k normed before it is rotated,
// and heads whose length is apart from hidden_size / num_heads.
#include "expert_workers/families/pre_norm_layer.h"

namespace conclave::families {
namespace {

struct Layer final : PreNormLayer {
  Layer() : PreNormLayer(Biases::kOptional, QkNorms::kEachHead) {}
};

constexpr HuggingFaceName kNames[] = {
    {"Qwen3ForCausalLM", Windows::kLateLayers, 4096}};

}  // namespace

extern const Family kQwen3;
const Family kQwen3 = DecoderFamily<Layer>({
    .architecture = "qwen3",
    .hugging_face = kNames,
    .head_dim = 128,
});

}  // namespace conclave::families
