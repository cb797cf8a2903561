#include "expert_workers/engine/forward/decoder.h"

#include <cmath>
#include <span>
#include <string>

#include "expert_workers/engine/forward/rope.h"
#include "expert_workers/engine/forward/tensor_binder.h"
#include "expert_workers/weights/hyperparameters.h"

namespace conclave::engine {

absl::StatusOr<std::unique_ptr<LanguageModel>> Decoder::Create(
    const families::Family& family, const weights::ModelLease& lease,
    const kernels::Ops& ops) {
  std::unique_ptr<Decoder> decoder(
      new Decoder(lease.manifest().spec.hyperparameters, ops));
  RETURN_IF_ERROR(decoder->Load(family, lease));
  return std::unique_ptr<LanguageModel>(std::move(decoder));
}

absl::Status Decoder::Load(const families::Family& family,
                           const weights::ModelLease& lease) {
  RETURN_IF_ERROR(weights::CheckHyperparameters(family, model_));
  TensorBinder frame(lease, "");
  embedding_.List(frame);
  head_.List(frame);
  RETURN_IF_ERROR(frame.status());
  if (head_.output.rows == 0) head_.output = embedding_.tokens;
  for (int64_t i = 0; i < model_.num_layers; ++i) {
    TensorBinder tensors(lease, fmt::format("blk.{}.", i));
    layers_.push_back(family.new_layer());
    layers_.back()->List(tensors);
    RETURN_IF_ERROR(tensors.status());
  }
  if (family.list_expert != nullptr) {
    RETURN_IF_ERROR(blocks_.SetGate(family.gate(model_.moe)));
    ASSIGN_OR_RETURN(experts_, ExpertPager::Create(family, lease));
    for (int64_t i = 0; i < model_.num_layers; ++i) {
      layers_[static_cast<size_t>(i)]->BindExperts(experts_->OfLayer(i));
    }
  }

  std::span<const float> factors;
  if (embedding_.rope_factors != nullptr) {
    factors = {embedding_.rope_factors,
               static_cast<size_t>(model_.head_dim / 2)};
  }
  ASSIGN_OR_RETURN(rope_, MakeRopeTable(model_, factors));
  ASSIGN_OR_RETURN(local_rope_, MakeLocalRopeTable(model_));
  if (family.scales_embedding) {
    embedding_scale_ =
        static_cast<float>(std::sqrt(static_cast<double>(model_.hidden_size)));
  }
  attention_scale_ =
      model_.attention_scale > 0
          ? model_.attention_scale
          : static_cast<float>(1.0 /
                               std::sqrt(static_cast<double>(model_.head_dim)));
  return absl::OkStatus();
}

KvShape Decoder::kv_shape(kernels::KvType type) const {
  return {.type = type,
          .num_layers = model_.num_layers,
          .num_kv_heads = model_.num_kv_heads,
          .head_dim = model_.head_dim};
}

LayerPlace Decoder::PlaceOf(const KvCache& cache, int64_t layer) const {
  const int64_t window = model_.layer_windows.empty()
                             ? 0
                             : model_.layer_windows[static_cast<size_t>(layer)];
  const bool local = window > 0 && !local_rope_.inv_freq.empty();
  return {.cache = &cache,
          .index = layer,
          .rope = local ? &local_rope_ : &rope_,
          .attention_scale = attention_scale_,
          .window = window};
}

bool Decoder::Forward(const Batch& batch, const KvCache& cache,
                      const StepContext& step) {
  blocks_.Embed(batch, embedding_.tokens, embedding_scale_, step.compute);
  for (int64_t i = 0; i < model_.num_layers; ++i) {
    if (step.between_layers && step.between_layers()) return false;
    blocks_.EnterLayer(PlaceOf(cache, i));
    layers_[static_cast<size_t>(i)]->Run(blocks_);
  }
  blocks_.KeepFinal(head_.norm);
  return true;
}

void Decoder::Logits(int64_t begin, int64_t end, Compute* compute, float* out) {
  blocks_.Logits(head_.output, begin, end, compute, out);
}

}  // namespace conclave::engine
