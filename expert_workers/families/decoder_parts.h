// What a decoder layer may compute: the words that a family's Run is written
// in. The engine implements them over all rows of a step at once.
//
// A part takes and leaves its data in named scratch: x (the residual stream),
// hidden, q, k, v, attended, activated.
#ifndef CONCLAVE_EXPERT_WORKERS_FAMILIES_DECODER_PARTS_H_
#define CONCLAVE_EXPERT_WORKERS_FAMILIES_DECODER_PARTS_H_

#include "expert_workers/families/decoder_tensors.h"

namespace conclave::families {

enum class Activation { kSilu, kGeluTanh };

class DecoderParts {
 public:
  virtual ~DecoderParts() = default;

  // hidden = rms_norm(x) * weight, ready for a projection.
  virtual void Norm(const float* weight) = 0;
  // q, k, v = projections of hidden, with their biases.
  virtual void ProjectQkv(const AttentionTensors& tensors) = 0;
  // Each head of q and k = rms_norm(itself) * weight [head_dim].
  virtual void NormQueryAndKey(const float* query, const float* key) = 0;
  // q and k, all heads at once, = rms_norm(itself) * weight.
  virtual void NormWholeQueryAndKey(const float* query, const float* key) = 0;
  // Rotates q and k by position; stores k and v in the layer's pages.
  virtual void RotateAndStore() = 0;
  // attended = softmax(q k * scale) v: causal, within the layer's window.
  virtual void Attend() = 0;
  // x += output attended + bias.
  virtual void AddAttention(const AttentionTensors& tensors) = 0;
  // x += rms_norm(output attended) * norm.
  virtual void AddNormedAttention(const AttentionTensors& tensors,
                                  const float* norm) = 0;
  // activated = activation(gate hidden) * (up hidden): SwiGLU, GeGLU.
  virtual void GatedUp(Activation activation,
                       const FeedForwardTensors& tensors) = 0;
  // The plan of a mixture: which experts compute each row of hidden, and what
  // their results weigh.
  virtual void Route(const MoeTensors& tensors) = 0;
  // x += sum of weight * expert(hidden), in the order in which they are chosen.
  virtual void AddExperts(const MoeTensors& tensors) = 0;
  // x += sigmoid(gate hidden) * expert(hidden).
  virtual void AddSharedExpert(const SharedExpertTensors& tensors) = 0;
  // x += down activated.
  virtual void AddFeedForward(const FeedForwardTensors& tensors) = 0;
  // x += rms_norm(down activated) * norm.
  virtual void AddNormedFeedForward(const FeedForwardTensors& tensors,
                                    const float* norm) = 0;
};

}  // namespace conclave::families

#endif  // CONCLAVE_EXPERT_WORKERS_FAMILIES_DECODER_PARTS_H_
