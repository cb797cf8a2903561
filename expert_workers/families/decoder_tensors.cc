#include "expert_workers/families/decoder_tensors.h"

namespace conclave::families {

using enum Side;

void DecoderEmbedding::List(TensorList& t) {
  t.Add({"token_embd.weight", "model.embed_tokens.weight", kVocab, kHidden},
        &tokens);
  t.Add({.gguf = "rope_freqs.weight", .cols = kRopePairs, .optional = true},
        &rope_factors);
}

void DecoderHead::List(TensorList& t) {
  t.Add({"output_norm.weight", "model.norm.weight", kOne, kHidden}, &norm);
  t.Add({"output.weight", "lm_head.weight", kVocab, kHidden, true}, &output);
}

void AttentionTensors::List(TensorList& t, Biases biases) {
  struct Linear {
    TensorRule weight, bias;
    kernels::PackedMatrix* matrix;
    const float** vector;
  };
  const Linear linears[] = {
      {{"attn_q.weight", "self_attn.q_proj.weight", kQuery, kHidden},
       {"attn_q.bias", "self_attn.q_proj.bias", kOne, kQuery},
       &q,
       &q_bias},
      {{"attn_k.weight", "self_attn.k_proj.weight", kKeyValue, kHidden},
       {"attn_k.bias", "self_attn.k_proj.bias", kOne, kKeyValue},
       &k,
       &k_bias},
      {{"attn_v.weight", "self_attn.v_proj.weight", kKeyValue, kHidden},
       {"attn_v.bias", "self_attn.v_proj.bias", kOne, kKeyValue},
       &v,
       &v_bias},
      {{"attn_output.weight", "self_attn.o_proj.weight", kHidden, kQuery},
       {"attn_output.bias", "self_attn.o_proj.bias", kOne, kHidden},
       &output,
       &output_bias},
  };
  for (Linear linear : linears) {
    const bool roped = linear.matrix == &q || linear.matrix == &k;
    linear.weight.roped = roped;
    linear.bias.roped = roped;
    linear.bias.optional = biases == Biases::kOptional;
    t.Add(linear.weight, linear.matrix);
    const bool has_bias =
        biases == Biases::kOptional ||
        (biases == Biases::kOnQkv && linear.matrix != &output);
    if (has_bias) t.Add(linear.bias, linear.vector);
  }
}

void ListExpert(TensorList& t, const ExpertNames& names,
                ExpertTensors* expert) {
  t.Add({"ffn_gate_exps.weight", names.gate, kExpertFfn, kHidden},
        &expert->gate);
  t.Add({"ffn_up_exps.weight", names.up, kExpertFfn, kHidden}, &expert->up);
  t.Add({"ffn_down_exps.weight", names.down, kHidden, kExpertFfn},
        &expert->down);
}

void SharedExpertTensors::List(TensorList& t) {
  const auto shared = [](TensorRule rule) {
    rule.shared_expert = true;
    return rule;
  };
  t.Add(shared({"ffn_gate_shexp.weight", "mlp.shared_expert.gate_proj.weight",
                kSharedFfn, kHidden}),
        &expert.gate);
  t.Add(shared({"ffn_up_shexp.weight", "mlp.shared_expert.up_proj.weight",
                kSharedFfn, kHidden}),
        &expert.up);
  t.Add(shared({"ffn_down_shexp.weight", "mlp.shared_expert.down_proj.weight",
                kHidden, kSharedFfn}),
        &expert.down);
  t.Add(shared({"ffn_gate_inp_shexp.weight", "mlp.shared_expert_gate.weight",
                kOne, kHidden}),
        &gate);
}

void FeedForwardTensors::List(TensorList& t) {
  TensorRule rule{"ffn_gate.weight", "mlp.gate_proj.weight", kFfn, kHidden};
  rule.part = Part::kFeedForward;
  t.Add(rule, &gate);
  rule.gguf = "ffn_up.weight";
  rule.hugging_face = "mlp.up_proj.weight";
  t.Add(rule, &up);
  rule = {"ffn_down.weight", "mlp.down_proj.weight", kHidden, kFfn};
  rule.part = Part::kFeedForward;
  t.Add(rule, &down);
}

kernels::GateConfig SoftmaxTopKGate(const weights::MoeHyperparameters& moe) {
  kernels::GateConfig gate;
  gate.num_experts = moe.num_experts;
  gate.k = moe.experts_per_token;
  gate.weight = moe.renormalize ? kernels::WeightKind::kRenorm
                                : kernels::WeightKind::kRaw;
  return gate;
}

}  // namespace conclave::families
