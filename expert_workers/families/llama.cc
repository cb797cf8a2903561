// Llama, and what took over its layers: Mistral, SmolLM2, and others under
// their names. Mistral looks back over a window where one is configured; a few
// derivatives have attention biases.
#include "expert_workers/families/pre_norm_layer.h"

namespace conclave::families {
namespace {

struct Layer final : PreNormLayer {
  Layer() : PreNormLayer(Biases::kOptional) {}
};

constexpr HuggingFaceName kNames[] = {
    {"LlamaForCausalLM"},
    // 4096: the first Mistral's window stands in its class, not in its files.
    {"MistralForCausalLM", Windows::kEveryLayer, 4096},
};

}  // namespace

extern const Family kLlama;
const Family kLlama = DecoderFamily<Layer>({
    .architecture = "llama",
    .hugging_face = kNames,
    .gguf_interleaves_rope = true,
    .gguf_windows = Windows::kEveryLayer,
});

}  // namespace conclave::families
