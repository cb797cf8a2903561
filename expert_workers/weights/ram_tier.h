// Weights in host memory under a byte budget (disk -> RAM). A lease pins a
// model's units; units nobody leases are evicted when room is needed.
//
//   unit:  Absent -> Loading -> Resident -> Absent   (evicted)
//                       |
//                       +-> Quarantined              (corrupt; Evict() forgets)
//
// Room is reserved for a whole model before the first read, so that two
// half-loaded models cannot wait for each other. Those who wait for room are
// served in the order they came; a model that is resident already is leased at
// once. A unit is read by one loader; others that need it wait for that one.
//
// A mixture that exceeds the budget is leased all the same, without its
// experts: these are read when they are wanted (expert_cache.h), and the whole
// budget is theirs and the model's.
//
// Threads: all methods may run concurrently.
// Lifetime: a ModelLease may outlive nothing but its RamTier.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_RAM_TIER_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_RAM_TIER_H_

#include <absl/time/time.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "expert_workers/weights/expert_cache.h"
#include "expert_workers/weights/weight_store.h"
#include "kernels/packed_matrix.h"

namespace conclave::weights {

// The right to use a model's weights; they stay where they are until the lease
// is destroyed.
class ModelLease {
 public:
  virtual ~ModelLease() = default;
  virtual const ModelManifest& manifest() const = 0;
  // The matrix called `name`; NOT_FOUND when the model has none. The view is
  // valid for the lease's lifetime.
  virtual absl::StatusOr<kernels::PackedMatrix> Matrix(
      std::string_view name) const = 0;
  // The fp32 vector called `name`.
  virtual absl::StatusOr<std::span<const float>> Vector(
      std::string_view name) const = 0;
  virtual bool Has(std::string_view name) const = 0;
  // Where experts come from that are read when they are wanted: until then
  // their matrices have shapes and no runs. nullptr: all are in memory.
  virtual ExpertCache* experts() const { return nullptr; }
};

struct ResidentModel {
  std::string version;
  int64_t resident_bytes = 0;
  int64_t total_bytes = 0;
  int num_leases = 0;
  // With experts on demand: what their cache may take, part of resident_bytes.
  int64_t expert_cache_bytes = 0;
};

struct RamTierStats {
  int64_t budget_bytes = 0;
  int64_t resident_bytes = 0;
  int64_t leased_bytes = 0;
  int64_t loads = 0;      // units read from disk
  int64_t evictions = 0;  // units dropped
  int64_t load_nanos = 0;
  std::vector<ResidentModel> models;
};

class RamTier {
 public:
  static std::unique_ptr<RamTier> Create(WeightStore* store,
                                         int64_t budget_bytes);
  virtual ~RamTier() = default;

  // What a lease of the model takes of `budget_bytes`: all of its units, or,
  // for a mixture that exceeds it, the budget.
  //   RESOURCE_EXHAUSTED  not even with experts on demand: the numbers
  static absl::StatusOr<int64_t> Footprint(const ModelManifest& manifest,
                                           int64_t budget_bytes);

  // Loads what is missing (evicting the least recently used unleased units)
  // and pins it all. Waits until `deadline` for other leases to end and for
  // units that others are loading; its own reading is not cut short.
  //   RESOURCE_EXHAUSTED  the model alone exceeds the budget: both numbers
  //   DEADLINE_EXCEEDED   leases of other models did not end in time
  //   DATA_LOSS           a unit is corrupt: it is quarantined and named
  virtual absl::StatusOr<std::unique_ptr<ModelLease>> Acquire(
      std::shared_ptr<const ModelManifest> manifest, absl::Time deadline) = 0;

  // Drops a model's unleased units now, and forgets which of them were
  // corrupt: after a new import they are read again.
  virtual void Evict(std::string_view version) = 0;
  virtual RamTierStats Stats() const = 0;
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_RAM_TIER_H_
