// What one request asks of a gate: experts banned, forced, nudged; fewer or
// more of them (MoTE; dynamic top-p). Applied before
// selection, so that the next best takes a banned one's place; a banned
// expert has no part in the softmax either. Only that request's tokens see it.
#ifndef CONCLAVE_KERNELS_GATE_TUNING_H_
#define CONCLAVE_KERNELS_GATE_TUNING_H_

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "kernels/gate/gate_config.h"

namespace conclave::kernels {

struct GateTuning {
  std::vector<int32_t> ban;    // columns
  std::vector<int32_t> force;  // columns; chosen first, by their own scores
  std::vector<std::pair<int32_t, float>> bias;  // added to the logits
  // Keep the shortest prefix whose mass exceeds this, of those chosen.
  std::optional<double> top_p;
  std::optional<int64_t> k;

  bool operator==(const GateTuning&) const = default;
};

// INVALID_ARGUMENT  no such column, both banned and forced, more forced than
//                   k, every column banned, a number out of range, or not
//                   meaningful for the gate's select
absl::Status CheckGateTuning(const GateConfig& config,
                             const GateTuning& tuning);

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_TUNING_H_
