// What llama-like families share around their layers: embedding, rope table,
// final norm, head (tied or not).
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_DECODER_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_DECODER_H_

#include <cstdint>

#include "expert_workers/engine/families/blocks.h"
#include "expert_workers/engine/families/language_model.h"
#include "expert_workers/engine/families/rope.h"
#include "expert_workers/engine/families/tensors.h"

namespace conclave::engine {

class Decoder : public LanguageModel {
 public:
  KvShape kv_shape(kernels::KvType type) const override;
  int64_t vocab_size() const override { return model_.vocab_size; }
  bool Forward(const Batch& batch, const KvCache& cache,
               const StepContext& step) final;
  void Logits(int64_t begin, int64_t end, Compute* compute,
              float* out) final;

  // Finds every tensor. Call once, before anything else.
  absl::Status Load(const weights::ModelLease& lease);

 protected:
  Decoder(const weights::ModelHyperparameters& model,
          const kernels::Ops& ops)
      : model_(model), blocks_(model, ops) {}

  // One layer's tensors, in order of layers.
  virtual void LoadLayer(Tensors& tensors, int64_t layer) = 0;
  // One layer's computation, from blocks_.
  virtual void RunLayer(const KvCache& cache, int64_t layer) = 0;

  const weights::ModelHyperparameters model_;
  DecoderBlocks blocks_;
  kernels::RopeTable rope_;

 private:
  kernels::PackedMatrix embedding_, head_;
  const float* output_norm_ = nullptr;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_DECODER_H_
