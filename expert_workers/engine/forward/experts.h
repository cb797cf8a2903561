// A layer's mixture of experts over all rows of a step: rows are sorted by
// expert, so that an expert's weights are read once however many rows it has,
// and work is cut over (expert, panels), never inside a sum. A row's result is
// the same bits whatever other rows there are.
//
//   route    gate logits -> plan (kernels/gate)
//   sort     rows of int8 activations copied in the plan's order
//   gate-up  silu(gate x) * (up x)         one barrier
//   down     one result a (row, expert)    one barrier
//   combine  weighted, in the order in which the row chose
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_EXPERTS_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_EXPERTS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "expert_workers/engine/compute.h"
#include "expert_workers/engine/forward/language_model.h"
#include "expert_workers/families/decoder_tensors.h"
#include "expert_workers/weights/model_spec.h"
#include "kernels/gate/gate.h"
#include "kernels/ops.h"

namespace conclave::engine {

// Threads: none; called while holding the turn.
class ExpertBlocks {
 public:
  ExpertBlocks(const weights::ModelHyperparameters& model,
               const kernels::Ops& ops)
      : moe_(model.moe), hidden_size_(model.hidden_size), ops_(ops) {}

  // What Route plans with; before the first Route.
  //   FAILED_PRECONDITION  the gate looks at more than the token
  absl::Status SetGate(const kernels::GateConfig& config);

  void BeginStep() { failures_.clear(); }
  // Rows of this step that wanted an expert which cannot be had.
  std::span<const RowFailure> failures() const { return failures_; }

  // Plans m rows by their gate logits [m, num_experts].
  void Route(int64_t m, const float* logits);

  // x [m, hidden_size] += sum over the row's experts of weight * expert(row).
  void Add(const kernels::Activations& hidden,
           const families::MoeTensors& tensors, Compute* compute, float* x);

  // x += sigmoid(gate row) * expert(row).
  void AddShared(const kernels::Activations& hidden,
                 const families::SharedExpertTensors& tensors, Compute* compute,
                 float* x);

 private:
  // Rows [begin, end) of some activations, for one expert.
  struct Group {
    const families::ExpertTensors* expert;
    int64_t begin;
    int64_t end;
    int64_t number = 0;  // the expert's
  };

  // results_ [in.m(), hidden_size]: each group's expert applied to its rows.
  void Apply(const kernels::Activations& in, std::span<const Group> groups,
             int64_t width, Compute* compute);
  // The same with groups_, of whose experts some have to be brought first, in
  // as many turns as it takes.
  void ApplyInTurns(const families::MoeExperts& experts, Compute* compute);
  // `group`'s rows count as failed, and its results as nothing.
  void Fail(const Group& group, const absl::Status& status);
  // body(group, panel_begin, panel_end) over all groups' panels.
  static void ForPanels(
      std::span<const Group> groups, int64_t panels, Compute* compute,
      const std::function<void(const Group&, int64_t, int64_t)>& body);

  const weights::MoeHyperparameters moe_;
  const int64_t hidden_size_;
  const kernels::Ops& ops_;

  // The combine's part: a row whose logits are not finite becomes NaN, so that
  // its own request fails and no other.
  void PoisonRejected(float* x) const;

  std::optional<kernels::Gate> gate_;
  kernels::RoutingPlan plan_;
  std::vector<Group> groups_;  // of the current layer

  kernels::Activations sorted_;     // [plan's rows, hidden_size]
  kernels::Activations activated_;  // [rows, width]
  std::vector<float> up_;           // [rows, width]
  std::vector<float> results_;      // [rows, hidden_size]
  std::vector<RowFailure> failures_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_EXPERTS_H_
