// The layer that most decoders are: pre-norm (RMS), grouped-query attention
// over rotated positions, then a feed-forward half: SwiGLU, or a mixture of
// such experts.
#ifndef CONCLAVE_EXPERT_WORKERS_FAMILIES_PRE_NORM_LAYER_H_
#define CONCLAVE_EXPERT_WORKERS_FAMILIES_PRE_NORM_LAYER_H_

#include "expert_workers/families/decoder_tensors.h"

namespace conclave::families {

enum class QkNorms {
  kNone,
  kEachHead,  // each head of q and k is normed before it is rotated
  kWhole,     // q and k are normed as they are, all heads at once
};

// Attention alone; who derives from it says what follows.
class PreNormAttention : public DecoderLayer {
 public:
  void List(TensorList& tensors) override;
  void Run(DecoderParts& parts) const override;

 protected:
  explicit PreNormAttention(Biases biases, QkNorms qk_norms)
      : biases_(biases), qk_norms_(qk_norms) {}

  virtual void ListFeedForward(TensorList& tensors) = 0;
  virtual void RunFeedForward(DecoderParts& parts) const = 0;

 private:
  const Biases biases_;
  const QkNorms qk_norms_;

  const float* attention_norm_ = nullptr;
  AttentionTensors attention_;
  const float* query_norm_ = nullptr;
  const float* key_norm_ = nullptr;
  const float* ffn_norm_ = nullptr;
};

class PreNormLayer : public PreNormAttention {
 protected:
  explicit PreNormLayer(Biases biases, QkNorms qk_norms = QkNorms::kNone)
      : PreNormAttention(biases, qk_norms) {}

 private:
  void ListFeedForward(TensorList& tensors) override;
  void RunFeedForward(DecoderParts& parts) const override;

  FeedForwardTensors ffn_;
};

enum class SharedExpert { kNone, kGated };

class PreNormMoeLayer : public PreNormAttention {
 public:
  void BindExperts(const MoeExperts& experts) override {
    moe_.experts = experts;
  }

 protected:
  // `hf_gate`: Hugging Face's name of the gate's matrix.
  explicit PreNormMoeLayer(Biases biases, QkNorms qk_norms = QkNorms::kNone,
                           SharedExpert shared = SharedExpert::kNone,
                           std::string_view hf_gate = "mlp.gate.weight")
      : PreNormAttention(biases, qk_norms),
        has_shared_(shared == SharedExpert::kGated),
        hf_gate_(hf_gate) {}

 private:
  void ListFeedForward(TensorList& tensors) override;
  void RunFeedForward(DecoderParts& parts) const override;

  const bool has_shared_;
  const std::string_view hf_gate_;
  MoeTensors moe_;
  SharedExpertTensors shared_;
};

}  // namespace conclave::families

#endif  // CONCLAVE_EXPERT_WORKERS_FAMILIES_PRE_NORM_LAYER_H_
