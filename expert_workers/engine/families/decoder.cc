#include "expert_workers/engine/families/decoder.h"

#include <span>

namespace conclave::engine {

KvShape Decoder::kv_shape(kernels::KvType type) const {
  return {.type = type,
          .num_layers = model_.num_layers,
          .num_kv_heads = model_.num_kv_heads,
          .head_dim = model_.head_dim};
}

absl::Status Decoder::Load(const weights::ModelLease& lease) {
  RETURN_IF_ERROR(CheckDecoderShapes(model_));
  std::span<const float> rope_factors;
  if (lease.Has("rope_freqs.weight")) {
    ASSIGN_OR_RETURN(rope_factors, lease.Vector("rope_freqs.weight"));
  }
  ASSIGN_OR_RETURN(rope_, MakeRopeTable(model_, rope_factors));
  Tensors tensors(lease);
  embedding_ = tensors.Matrix("token_embd.weight", model_.vocab_size,
                              model_.hidden_size);
  output_norm_ = tensors.Vector("output_norm.weight", model_.hidden_size);
  head_ = tensors.Has("output.weight")
              ? tensors.Matrix("output.weight", model_.vocab_size,
                               model_.hidden_size)
              : embedding_;
  for (int64_t layer = 0; layer < model_.num_layers; ++layer) {
    LoadLayer(tensors, layer);
  }
  return tensors.status();
}

bool Decoder::Forward(const Batch& batch, const KvCache& cache,
                      const StepContext& step) {
  blocks_.Embed(batch, embedding_, step.compute);
  for (int64_t layer = 0; layer < model_.num_layers; ++layer) {
    if (step.between_layers && step.between_layers()) return false;
    RunLayer(cache, layer);
  }
  blocks_.KeepFinal(output_norm_);
  return true;
}

void Decoder::Logits(int64_t begin, int64_t end, Compute* compute,
                     float* out) {
  blocks_.Logits(head_, begin, end, compute, out);
}

}  // namespace conclave::engine
