// OLMoE: many small experts, eight of which compute a token, weighed by a
// softmax over all of them; q and k are normed whole.
#include "expert_workers/families/pre_norm_layer.h"

namespace conclave::families {
namespace {

struct Layer final : PreNormMoeLayer {
  Layer() : PreNormMoeLayer(Biases::kNone, QkNorms::kWhole) {}
};

constexpr HuggingFaceName kNames[] = {{"OlmoeForCausalLM"}};

}  // namespace

extern const Family kOlmoe;
const Family kOlmoe = MoeFamily<Layer>({
    .architecture = "olmoe",
    .hugging_face = kNames,
    .hf_says_renormalize = true,
});

}  // namespace conclave::families
