// Mixtral: Mistral's layer with eight SwiGLU experts, two of which compute a
// token; their weights are a softmax over the two. GGUF files call it llama.
#include "expert_workers/families/pre_norm_layer.h"

namespace conclave::families {
namespace {

struct Layer final : PreNormMoeLayer {
  Layer()
      : PreNormMoeLayer(Biases::kNone, QkNorms::kNone, SharedExpert::kNone,
                        "block_sparse_moe.gate.weight") {}
};

constexpr HuggingFaceName kNames[] = {
    {"MixtralForCausalLM", Windows::kEveryLayer, 0}};

void ListMixtralExpert(TensorList& tensors, ExpertTensors* expert) {
  ListExpert(tensors, {"w1.weight", "w3.weight", "w2.weight"}, expert);
}

}  // namespace

extern const Family kMixtral;
const Family kMixtral = MoeFamily<Layer>(
    {
        .architecture = "mixtral",
        .gguf_architecture = "llama",
        .hugging_face = kNames,
        .gguf_interleaves_rope = true,
        .gguf_windows = Windows::kEveryLayer,
        .rope_theta = 1e6f,
        .hf_experts = "block_sparse_moe.experts.",
        .renormalizes = true,
    },
    ListMixtralExpert);

}  // namespace conclave::families
