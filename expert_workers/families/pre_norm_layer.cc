#include "expert_workers/families/pre_norm_layer.h"

#include "expert_workers/families/decoder_parts.h"

namespace conclave::families {

using enum Side;

void PreNormLayer::List(TensorList& t) {
  t.Add({"attn_norm.weight", "input_layernorm.weight", kOne, kHidden},
        &attention_norm_);
  attention_.List(t, biases_);
  if (head_norms_ == HeadNorms::kQueryAndKey) {
    t.Add({"attn_q_norm.weight", "self_attn.q_norm.weight", kOne, kHead},
          &query_norm_);
    t.Add({"attn_k_norm.weight", "self_attn.k_norm.weight", kOne, kHead},
          &key_norm_);
  }
  t.Add({"ffn_norm.weight", "post_attention_layernorm.weight", kOne, kHidden},
        &ffn_norm_);
  ffn_.List(t);
}

void PreNormLayer::Run(DecoderParts& p) const {
  p.Norm(attention_norm_);
  p.ProjectQkv(attention_);
  if (head_norms_ == HeadNorms::kQueryAndKey) {
    p.NormQueryAndKey(query_norm_, key_norm_);
  }
  p.RotateAndStore();
  p.Attend();
  p.AddAttention(attention_);

  p.Norm(ffn_norm_);
  p.GatedUp(Activation::kSilu, ffn_);
  p.AddFeedForward(ffn_);
}

}  // namespace conclave::families
