// Which rows each MoE expert computes and what its results weigh: all that a
// kernel sees of a gate.
//
//   expert-major  off, tok, wt      what a grouped matmul reads
//   token-major   toff, aidx        what a combine reads: a sum in the order in
//                                   which the token chose, without atomics
//
// A *row* of the plan is one (token, virtual expert); there are R of them.
// Owner: the caller; reuse one plan, its vectors keep their room.
#ifndef CONCLAVE_KERNELS_GATE_ROUTING_PLAN_H_
#define CONCLAVE_KERNELS_GATE_ROUTING_PLAN_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/gate/gate_config.h"

namespace conclave::kernels {

struct RoutingStats {
  std::vector<int64_t> load;  // [V]: rows of each virtual expert; sums to R
  // [n]: tokens with n rows. Padding and rejected tokens are not counted.
  std::vector<int64_t> experts_per_token;
  int64_t dropped = 0;     // chosen, but its expert had no room
  int64_t null_count = 0;  // choices of a null expert
  // Whose tokens this plan could have depended on: the gate's scope, or
  // kRequest where a batch-wide gate saw one request.
  Scope effective_scope = Scope::kToken;
  // Filled when GateInput::detailed_stats asks for them; means over what was
  // scored (tokens, or sequences).
  std::vector<double> prob_mean;  // [num_columns]
  double entropy = 0;             // nats
};

// A token that could not be routed. It has no rows.
struct RejectedToken {
  enum class Reason { kNotFinite, kNoExpertLeft, kBadTuning };
  int64_t token;
  Reason reason;
};

struct RoutingPlan {
  // Virtual expert v has rows [off[v], off[v + 1]), tokens ascending.
  std::vector<int64_t> off;  // [V + 1]
  std::vector<int32_t> tok;  // [R]
  std::vector<float> wt;     // [R]
  // Token t's rows are aidx[toff[t]] .. aidx[toff[t + 1] - 1], in rank order:
  // best first; by expert where experts choose.
  std::vector<int64_t> toff;  // [T + 1]
  std::vector<int32_t> aidx;  // [R]
  // The weights that virtual expert v uses. Columns that share one expert's
  // weights share the lowest one's virtual expert. Under soft_merge v is a
  // sequence, and phys[v] the buffer of its merged weights.
  std::vector<int32_t> phys;  // [V]
  // soft_merge: expert e's share in sequence v's weights, [V, num_experts].
  std::vector<float> mix;
  // act_norm: the selected experts' x W_down, [R, d_low]; an expert need not
  // compute it again.
  std::vector<float> pre;
  // sigmoid_residual: what of x itself goes to the output, [T].
  std::vector<float> residual_wt;
  std::vector<RejectedToken> rejected;
  RoutingStats stats;

  int64_t num_tokens() const { return static_cast<int64_t>(toff.size()) - 1; }
  int64_t num_virtual() const { return static_cast<int64_t>(off.size()) - 1; }
  int64_t num_rows() const { return static_cast<int64_t>(tok.size()); }
};

// A choice on its way into the plan: token-major, in rank order.
struct Assignment {
  int32_t token;
  int32_t expert;  // virtual
  float weight;
};

// Lays `chosen` out. They are sorted by token; no (token, expert) comes twice.
// Sets off, tok, wt, toff, aidx, load and experts_per_token; a counting sort,
// O(R + V + T). A token counts into experts_per_token where counted[t] != 0.
void LayOut(std::span<const Assignment> chosen, int64_t num_virtual,
            std::span<const uint8_t> counted, RoutingPlan* plan);

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_ROUTING_PLAN_H_
