// Which columns one row of scores chooses, best first. Equal keys go to the
// lower column.
#ifndef CONCLAVE_KERNELS_GATE_SELECT_H_
#define CONCLAVE_KERNELS_GATE_SELECT_H_

#include <cstdint>
#include <span>

#include "kernels/gate/gate_config.h"
#include "kernels/gate/score.h"

namespace conclave::kernels {

struct SelectLimits {
  int64_t k = 0;
  // Keep the shortest prefix, one at least, whose summed score exceeds this
  // (arXiv 2403.07652); 1 keeps all k.
  double p = 1.0;
  std::span<const int32_t> force = {};  // come first
};

// Sets the keys of experts outside the best `keep_groups` groups to -infinity.
// Equal groups: the lower one.
void RestrictToGroups(const GateConfig& config, std::span<float> keys);

// Writes at most limits.k columns, fewer when fewer may be chosen; returns
// how many. Overwrites keys of forced columns.
//   chosen [num_columns]
int64_t ChooseRanked(const SelectLimits& limits, const ScoredRow& row,
                     std::span<int32_t> chosen);
// Every column that may be chosen, ascending.
int64_t ChooseAll(const SelectLimits& limits, const ScoredRow& row,
                  std::span<int32_t> chosen);

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_SELECT_H_
