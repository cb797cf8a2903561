// The layer that most decoders are: pre-norm (RMS), grouped-query attention
// over rotated positions, SwiGLU.
#ifndef CONCLAVE_EXPERT_WORKERS_FAMILIES_PRE_NORM_LAYER_H_
#define CONCLAVE_EXPERT_WORKERS_FAMILIES_PRE_NORM_LAYER_H_

#include "expert_workers/families/decoder_tensors.h"

namespace conclave::families {

enum class HeadNorms {
  kNone,
  kQueryAndKey,  // each head of q and k is normed before it is rotated
};

class PreNormLayer : public DecoderLayer {
 public:
  void List(TensorList& tensors) override;
  void Run(DecoderParts& parts) const override;

 protected:
  explicit PreNormLayer(Biases biases, HeadNorms head_norms = HeadNorms::kNone)
      : biases_(biases), head_norms_(head_norms) {}

 private:
  const Biases biases_;
  const HeadNorms head_norms_;

  const float* attention_norm_ = nullptr;
  AttentionTensors attention_;
  const float* query_norm_ = nullptr;
  const float* key_norm_ = nullptr;
  const float* ffn_norm_ = nullptr;
  FeedForwardTensors ffn_;
};

}  // namespace conclave::families

#endif  // CONCLAVE_EXPERT_WORKERS_FAMILIES_PRE_NORM_LAYER_H_
