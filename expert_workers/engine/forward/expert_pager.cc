#include "expert_workers/engine/forward/expert_pager.h"

#include <fmt/core.h>

#include "expert_workers/engine/forward/tensor_binder.h"

namespace conclave::engine {

absl::StatusOr<std::unique_ptr<ExpertPager>> ExpertPager::Create(
    const families::Family& family, const weights::ModelLease& lease) {
  std::unique_ptr<ExpertPager> pager(new ExpertPager(family, lease));
  const weights::ModelHyperparameters& model =
      lease.manifest().spec.hyperparameters;
  pager->layers_.resize(static_cast<size_t>(model.num_layers));
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    pager->layers_[static_cast<size_t>(layer)].resize(
        static_cast<size_t>(model.moe.num_experts));
    for (int64_t expert = 0; expert < model.moe.num_experts; ++expert) {
      RETURN_IF_ERROR(pager->Bind(layer, expert));
    }
  }
  return pager;
}

families::MoeExperts ExpertPager::OfLayer(int64_t layer) {
  return {.tensors = layers_[static_cast<size_t>(layer)],
          .layer = layer,
          .source = lease_.experts() != nullptr ? this : nullptr};
}

absl::StatusOr<size_t> ExpertPager::Bring(int64_t layer,
                                          std::span<const int64_t> experts) {
  ASSIGN_OR_RETURN(const size_t brought,
                   lease_.experts()->Bring(layer, experts, &moved_));
  for (const int64_t expert : moved_) RETURN_IF_ERROR(Bind(layer, expert));
  return brought;
}

bool ExpertPager::Has(int64_t layer, int64_t expert) const {
  return lease_.experts()->Has(layer, expert);
}

absl::Status ExpertPager::Bind(int64_t layer, int64_t expert) {
  TensorBinder tensors(lease_, fmt::format("blk.{}.expert.{}.", layer, expert));
  family_.list_expert(
      tensors,
      &layers_[static_cast<size_t>(layer)][static_cast<size_t>(expert)]);
  return tensors.status();
}

}  // namespace conclave::engine
