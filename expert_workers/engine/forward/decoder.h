// Runs any decoder family: embedding, its layers, final norm, head (its own
// or the embedding).
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_DECODER_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_DECODER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "expert_workers/engine/forward/blocks.h"
#include "expert_workers/engine/forward/expert_pager.h"
#include "expert_workers/engine/forward/language_model.h"
#include "expert_workers/families/decoder_tensors.h"
#include "expert_workers/families/family.h"

namespace conclave::engine {

class Decoder final : public LanguageModel {
 public:
  // See LanguageModel::Create. `family` is a decoder.
  static absl::StatusOr<std::unique_ptr<LanguageModel>> Create(
      const families::Family& family, const weights::ModelLease& lease,
      const kernels::Ops& ops);

  KvShape kv_shape(kernels::KvType type) const override;
  int64_t vocab_size() const override { return model_.vocab_size; }
  bool Forward(const Batch& batch, const KvCache& cache,
               const StepContext& step) override;
  std::span<const RowFailure> failures() const override {
    return blocks_.failures();
  }
  void Logits(int64_t begin, int64_t end, Compute* compute,
              float* out) override;

 private:
  Decoder(const weights::ModelHyperparameters& model, const kernels::Ops& ops)
      : model_(model), blocks_(model, ops) {}

  absl::Status Load(const families::Family& family,
                    const weights::ModelLease& lease);
  LayerPlace PlaceOf(const KvCache& cache, int64_t layer) const;

  const weights::ModelHyperparameters model_;
  DecoderBlocks blocks_;
  families::DecoderEmbedding embedding_;
  std::vector<std::unique_ptr<families::DecoderLayer>> layers_;
  std::unique_ptr<ExpertPager> experts_;  // nullptr: no mixture
  families::DecoderHead head_;
  float embedding_scale_ = 1.0f;
  float attention_scale_ = 1.0f;
  kernels::RopeTable rope_;
  kernels::RopeTable local_rope_;  // of layers with a window
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_DECODER_H_
