// Gemma 3 (text): norms before and after both halves of a layer, q and k
// normed by head, GeGLU. Five layers of six look back over a window, rotated
// by a base of their own; embeddings are scaled, and are the head.
#include <cmath>

#include "expert_workers/families/decoder_parts.h"

namespace conclave::families {
namespace {

using enum Side;

struct Layer final : DecoderLayer {
  const float* attention_norm = nullptr;
  AttentionTensors attention;
  const float* query_norm = nullptr;
  const float* key_norm = nullptr;
  const float* attention_post_norm = nullptr;
  const float* ffn_norm = nullptr;
  FeedForwardTensors ffn;
  const float* ffn_post_norm = nullptr;

  void List(TensorList& t) override {
    t.Add({"attn_norm.weight", "input_layernorm.weight", kOne, kHidden},
          &attention_norm);
    attention.List(t, Biases::kNone);
    t.Add({"attn_q_norm.weight", "self_attn.q_norm.weight", kOne, kHead},
          &query_norm);
    t.Add({"attn_k_norm.weight", "self_attn.k_norm.weight", kOne, kHead},
          &key_norm);
    t.Add({"post_attention_norm.weight", "post_attention_layernorm.weight",
           kOne, kHidden},
          &attention_post_norm);
    t.Add(
        {"ffn_norm.weight", "pre_feedforward_layernorm.weight", kOne, kHidden},
        &ffn_norm);
    ffn.List(t);
    t.Add({"post_ffw_norm.weight", "post_feedforward_layernorm.weight", kOne,
           kHidden},
          &ffn_post_norm);
  }

  void Run(DecoderParts& p) const override {
    p.Norm(attention_norm);
    p.ProjectQkv(attention);
    p.NormQueryAndKey(query_norm, key_norm);
    p.RotateAndStore();
    p.Attend();
    p.AddNormedAttention(attention, attention_post_norm);

    p.Norm(ffn_norm);
    p.GatedUp(Activation::kGeluTanh, ffn);
    p.AddNormedFeedForward(ffn, ffn_post_norm);
  }
};

// The 27B alone scales q by hidden_size / num_heads. GGUF files do not say so:
// their readers know it by its depth.
float GgufAttentionScale(const weights::ModelHyperparameters& model) {
  if (model.num_layers != 62) return 0.0f;
  return 1.0f /
         std::sqrt(static_cast<float>(model.hidden_size / model.num_heads));
}

constexpr HuggingFaceName kNames[] = {
    {"Gemma3ForCausalLM", Windows::kPattern, 4096}};

}  // namespace

extern const Family kGemma3;
const Family kGemma3 = DecoderFamily<Layer>({
    .architecture = "gemma3",
    .hugging_face = kNames,
    .hf_norms_less_one = true,
    .gguf_windows = Windows::kPattern,
    .gguf_attention_scale = GgufAttentionScale,
    .activation = "gelu_pytorch_tanh",
    .rope_theta = 1e6f,
    .rope_local_theta = 1e4f,
    .head_dim = 256,
    .query_scalar = 256,
    .full_attention_every = 6,
    .tied_embeddings = true,
    .scales_embedding = true,
});

}  // namespace conclave::families
