#include "expert_workers/families/pre_norm_layer.h"

#include "expert_workers/families/decoder_parts.h"

namespace conclave::families {

using enum Side;

void PreNormAttention::List(TensorList& t) {
  t.Add({"attn_norm.weight", "input_layernorm.weight", kOne, kHidden},
        &attention_norm_);
  attention_.List(t, biases_);
  if (qk_norms_ != QkNorms::kNone) {
    const bool whole = qk_norms_ == QkNorms::kWhole;
    t.Add({"attn_q_norm.weight", "self_attn.q_norm.weight", kOne,
           whole ? kQuery : kHead},
          &query_norm_);
    t.Add({"attn_k_norm.weight", "self_attn.k_norm.weight", kOne,
           whole ? kKeyValue : kHead},
          &key_norm_);
  }
  t.Add({"ffn_norm.weight", "post_attention_layernorm.weight", kOne, kHidden},
        &ffn_norm_);
  ListFeedForward(t);
}

void PreNormAttention::Run(DecoderParts& p) const {
  p.Norm(attention_norm_);
  p.ProjectQkv(attention_);
  if (qk_norms_ == QkNorms::kEachHead) {
    p.NormQueryAndKey(query_norm_, key_norm_);
  } else if (qk_norms_ == QkNorms::kWhole) {
    p.NormWholeQueryAndKey(query_norm_, key_norm_);
  }
  p.RotateAndStore();
  p.Attend();
  p.AddAttention(attention_);

  p.Norm(ffn_norm_);
  RunFeedForward(p);
}

void PreNormLayer::ListFeedForward(TensorList& t) { ffn_.List(t); }

void PreNormLayer::RunFeedForward(DecoderParts& p) const {
  p.GatedUp(Activation::kSilu, ffn_);
  p.AddFeedForward(ffn_);
}

void PreNormMoeLayer::ListFeedForward(TensorList& t) {
  TensorRule gate{"ffn_gate_inp.weight", hf_gate_, kExperts, kHidden};
  gate.part = Part::kGate;
  t.Add(gate, &moe_.gate);
  if (has_shared_) shared_.List(t);
}

void PreNormMoeLayer::RunFeedForward(DecoderParts& p) const {
  p.Route(moe_);
  p.AddExperts(moe_);
  if (shared_.gate != nullptr) p.AddSharedExpert(shared_);
}

}  // namespace conclave::families
