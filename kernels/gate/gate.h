// The gate: from activations, or from logits that the caller has, to a plan.
//
//   Scorer    logits of each token, or of each sequence        scorer.h
//   Mask      a request's bans and biases                      tuning.h
//   Score     odds and selection keys                          score.h
//   Select    the columns a row chooses                        select.h
//   Capacity  who finds room                                   capacity.h
//   Weight    what each result counts
//   Plan      one counting sort                                routing_plan.h
//
// A token's rows are a function of that token's logits and its request's
// tuning alone, bit for bit, unless the gate's scope (caps.h) is wider. Sums
// run in one fixed order in double. Nothing is allocated once the buffers have
// grown to the largest call.
//
// Threads: one call of Route at a time.
#ifndef CONCLAVE_KERNELS_GATE_GATE_H_
#define CONCLAVE_KERNELS_GATE_GATE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/gate/capacity.h"
#include "kernels/gate/caps.h"
#include "kernels/gate/gate_config.h"
#include "kernels/gate/routing_plan.h"
#include "kernels/gate/score.h"
#include "kernels/gate/select.h"
#include "kernels/gate/tuning.h"

namespace conclave::kernels {

// Consecutive tokens [begin, end) of one text.
struct GateSequence {
  int64_t begin = 0;
  int64_t end = 0;
  uint64_t request = 0;                // scope=request compares these together
  const GateTuning* tuning = nullptr;  // nullptr: none
};

struct GateInput {
  int64_t num_tokens = 0;
  // [NumLogitRows, num_columns]
  std::span<const float> logits = {};
  // act_norm: x W_down of every expert, [num_tokens, num_experts * d_low].
  std::span<const float> pre = {};
  // Ascending, apart. Tokens in none are padding. Empty: one sequence of all.
  std::span<const GateSequence> sequences = {};
  // 0: padding, [num_tokens]; empty: none is.
  std::span<const uint8_t> valid = {};
  uint64_t seed = 0;  // of capacity.order=random
  bool detailed_stats = false;
};

// A row for each token, or for each sequence.
int64_t NumLogitRows(const GateConfig& config, int64_t num_tokens,
                     std::span<const GateSequence> sequences);

class Gate {
 public:
  // `correction` [num_columns]: what sigmoid scores are chosen by in addition;
  // empty: none. Copied.
  //   INVALID_ARGUMENT  see ValidateGateConfig; correction of a wrong length
  static absl::StatusOr<Gate> Create(const GateConfig& config,
                                     std::span<const float> correction = {});
  // Moves only: the row at hand is views of its own buffers.
  Gate(Gate&&) = default;
  Gate& operator=(Gate&&) = default;

  const GateConfig& config() const { return config_; }
  GateCaps caps() const { return CapsOf(config_); }

  // Fills *plan.
  //   INVALID_ARGUMENT  wrong lengths: the plan is unspecified; or tokens that
  //                     cannot be routed (logits not finite, no expert left, a
  //                     tuning that CheckGateTuning refuses): they are in
  //                     plan->rejected, and the plan is whole for all others
  absl::Status Route(const GateInput& input, RoutingPlan* plan);

 private:
  using Choose = int64_t (*)(const SelectLimits& limits, const ScoredRow& row,
                             std::span<int32_t> chosen);
  using Reason = RejectedToken::Reason;

  explicit Gate(const GateConfig& config, std::span<const float> correction);

  absl::Status CheckInput(const GateInput& input) const;
  void RouteSequence(const GateInput& input, const GateSequence& sequence,
                     size_t index, RoutingPlan* plan);
  // Mask and Score of one row of logits; false: *reason says why not.
  bool ScoreRow(const float* logits, bool tuned, Reason* reason);
  // Select and Weight: row_ -> shares_, virtual_, weights_; returns how many.
  void ChooseRow(const SelectLimits& limits, RoutingPlan* plan);
  void Weigh(std::span<const int32_t> chosen);
  // The row's choices, as `token`'s.
  void Assign(int64_t token);
  void Merge(size_t sequence, RoutingPlan* plan);
  SelectLimits LimitsOf(const GateTuning* tuning) const;
  void SetAdjustment(const GateTuning& tuning);
  void MakeSegments(const GateInput& input);
  void Finish(const GateInput& input, RoutingPlan* plan);

  GateConfig config_;
  std::vector<float> correction_;
  const ScoreStage* score_;
  Choose choose_;
  std::vector<int32_t> virtual_of_;  // [num_columns]; -1: a null expert
  std::vector<int32_t> phys_;        // [num_experts]
  int64_t num_physical_;             // different ones

  // The row at hand.
  ScoredRow row_;
  std::vector<float> adjusted_, keys_, adjustment_;  // [num_columns]
  std::vector<double> odds_;                         // [num_columns]
  std::vector<int32_t> chosen_;                      // [num_columns]
  struct Choice {
    int32_t expert;
    double share;
    double weight;
  };
  std::vector<Choice> choices_;  // real ones, aliases merged

  // The call at hand.
  std::vector<GateSequence> whole_;  // when the caller names no sequences
  std::vector<Assignment> assignments_;
  std::vector<double> priority_;  // of each assignment
  std::vector<uint8_t> counted_;  // [T]
  std::vector<std::pair<uint64_t, int32_t>> requests_;
  Segments segments_;
  Capacity capacity_;
  int64_t num_scored_ = 0;
  bool detailed_ = false;
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_GATE_H_
