// Qwen2 and Qwen2.5: Llama's layer with biases on q, k and v.
#include "expert_workers/families/pre_norm_layer.h"

namespace conclave::families {
namespace {

struct Layer final : PreNormLayer {
  Layer() : PreNormLayer(Biases::kOnQkv) {}
};

constexpr HuggingFaceName kNames[] = {
    {"Qwen2ForCausalLM", Windows::kLateLayers, 4096}};

}  // namespace

extern const Family kQwen2;
const Family kQwen2 = DecoderFamily<Layer>({
    .architecture = "qwen2",
    .hugging_face = kNames,
});

}  // namespace conclave::families
