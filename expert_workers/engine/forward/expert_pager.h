// A mixture's experts as a layer computes with them: found by name once, or,
// when the lease reads them on demand, found again whenever they have moved.
//
// Threads: none; called while holding the turn.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_EXPERT_PAGER_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_EXPERT_PAGER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "expert_workers/families/decoder_tensors.h"
#include "expert_workers/families/family.h"
#include "expert_workers/weights/ram_tier.h"

namespace conclave::engine {

class ExpertPager final : public families::ExpertSource {
 public:
  // `lease` outlives it. INVALID_ARGUMENT: a tensor is missing or misshapen.
  static absl::StatusOr<std::unique_ptr<ExpertPager>> Create(
      const families::Family& family, const weights::ModelLease& lease);

  families::MoeExperts OfLayer(int64_t layer);

  absl::StatusOr<size_t> Bring(int64_t layer,
                               std::span<const int64_t> experts) override;
  bool Has(int64_t layer, int64_t expert) const override;

 private:
  ExpertPager(const families::Family& family, const weights::ModelLease& lease)
      : family_(family), lease_(lease) {}

  // Fills the expert's slots from the lease.
  absl::Status Bind(int64_t layer, int64_t expert);

  const families::Family& family_;
  const weights::ModelLease& lease_;
  std::vector<std::vector<families::ExpertTensors>> layers_;
  std::vector<int64_t> moved_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_EXPERT_PAGER_H_
