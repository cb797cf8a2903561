// Where a model's tensors lie in the memory of its units: names to panels.
//
// Threads: none.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_UNIT_VIEWS_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_UNIT_VIEWS_H_

#include <cstddef>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "expert_workers/weights/weight_store.h"
#include "kernels/packed_matrix.h"

namespace conclave::weights {

class UnitViews {
 public:
  // The unit's tensors lie in `memory` now: its records end to end. nullptr:
  // nowhere; shapes are known all the same. `unit` outlives this.
  void Map(const UnitInfo& unit, const std::byte* memory);

  // NOT_FOUND: no such tensor, or it is of the other kind. A matrix whose unit
  // is nowhere has no runs.
  absl::StatusOr<kernels::PackedMatrix> Matrix(std::string_view name) const;
  absl::StatusOr<std::span<const float>> Vector(std::string_view name) const;
  bool Has(std::string_view name) const { return views_.contains(name); }

 private:
  struct View {
    const TensorInfo* tensor = nullptr;
    std::vector<kernels::PanelRun> runs;
  };

  absl::StatusOr<const View*> Find(std::string_view name) const;

  std::map<std::string_view, View> views_;  // names point into the units
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_UNIT_VIEWS_H_
