#include "expert_workers/engine/forward/experts.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "kernels/gate/score.h"
#include "kernels/limits.h"

namespace conclave::engine {
namespace {

using kernels::kActivationBlock;
using kernels::kPanelRows;
constexpr int64_t kPanelsPerBlock = kActivationBlock / kPanelRows;

// As blocks.cc: chunks enough that a slow thread leaves its share.
constexpr int64_t kChunksPerThread = 8;

int64_t Grain(int64_t count, int threads) {
  return std::max<int64_t>(count / (threads * kChunksPerThread), 1);
}

template <typename T>
void Grow(std::vector<T>& buffer, int64_t size) {
  if (static_cast<int64_t>(buffer.size()) < size) {
    buffer.resize(static_cast<size_t>(size));
  }
}

}  // namespace

absl::Status ExpertBlocks::SetGate(const kernels::GateConfig& config) {
  RETURN_IF_ERROR(kernels::CheckDecoding(config));
  if (config.num_columns() != moe_.num_experts) {
    return InvalidArgument("a gate of {} columns for {} experts",
                           config.num_columns(), moe_.num_experts);
  }
  ASSIGN_OR_RETURN(gate_, kernels::Gate::Create(config));
  return absl::OkStatus();
}

void ExpertBlocks::Route(int64_t m, const float* logits) {
  CHECK(gate_.has_value(), "no gate is set");
  const absl::Status status = gate_->Route(
      {.num_tokens = m,
       .logits = {logits, static_cast<size_t>(m * moe_.num_experts)}},
      &plan_);
  // Rows it could not route are in the plan; nothing else can be wrong.
  CHECK(status.ok() || !plan_.rejected.empty(), "{}", Message(status));
}

void ExpertBlocks::Add(const kernels::Activations& hidden,
                       const families::MoeTensors& tensors, Compute* compute,
                       float* x) {
  const int64_t m = hidden.m();
  const int64_t rows = plan_.num_rows();
  CHECK(plan_.num_tokens() == m, "{} tokens of {}", plan_.num_tokens(), m);
  const auto copied = kernels::Activations::Copied::kBothForms;
  sorted_.Resize(rows, hidden_size_);
  for (int64_t r = 0; r < rows; ++r) {
    sorted_.CopyRow(r, hidden, plan_.tok[static_cast<size_t>(r)], copied);
  }
  groups_.clear();
  for (size_t v = 0; v < plan_.phys.size(); ++v) {
    if (plan_.off[v] == plan_.off[v + 1]) continue;
    const int64_t number = plan_.phys[v];
    groups_.push_back({&tensors.experts.tensors[static_cast<size_t>(number)],
                       plan_.off[v], plan_.off[v + 1], number});
  }
  if (tensors.experts.source == nullptr) {
    Apply(sorted_, groups_, moe_.intermediate_size, compute);
  } else {
    ApplyInTurns(tensors.experts, compute);
  }

  const int64_t d = hidden_size_;
  compute->ParallelFor(
      m, Grain(m, compute->threads()), [&](int64_t begin, int64_t end) {
        std::vector<float> sum(static_cast<size_t>(d));
        for (int64_t t = begin; t < end; ++t) {
          std::fill(sum.begin(), sum.end(), 0.0f);
          const auto first = static_cast<size_t>(t);
          for (int64_t a = plan_.toff[first]; a < plan_.toff[first + 1]; ++a) {
            const auto row =
                static_cast<size_t>(plan_.aidx[static_cast<size_t>(a)]);
            const float* result =
                results_.data() + static_cast<int64_t>(row) * d;
            const float weight = plan_.wt[row];
            for (int64_t c = 0; c < d; ++c) {
              sum[static_cast<size_t>(c)] += weight * result[c];
            }
          }
          ops_.add(x + t * d, sum.data(), d);
        }
      });
  PoisonRejected(x);
}

void ExpertBlocks::PoisonRejected(float* x) const {
  for (const kernels::RejectedToken& token : plan_.rejected) {
    std::fill_n(x + token.token * hidden_size_, hidden_size_,
                std::numeric_limits<float>::quiet_NaN());
  }
}

void ExpertBlocks::AddShared(const kernels::Activations& hidden,
                             const families::SharedExpertTensors& tensors,
                             Compute* compute, float* x) {
  const int64_t m = hidden.m();
  const int64_t d = hidden_size_;
  const Group all{&tensors.expert, 0, m};
  Apply(hidden, {&all, 1}, moe_.shared_intermediate_size, compute);
  for (int64_t i = 0; i < m; ++i) {
    const float* row = hidden.row(i);
    double logit = 0;
    for (int64_t c = 0; c < d; ++c) logit += double{row[c]} * tensors.gate[c];
    const auto weight = static_cast<float>(kernels::Sigmoid(logit));
    float* result = results_.data() + i * d;
    for (int64_t c = 0; c < d; ++c) result[c] *= weight;
    ops_.add(x + i * d, result, d);
  }
}

void ExpertBlocks::ApplyInTurns(const families::MoeExperts& experts,
                                Compute* compute) {
  // Those in memory first, before others take their place.
  std::ranges::stable_partition(groups_, [&](const Group& group) {
    return experts.source->Has(experts.layer, group.number);
  });
  std::vector<int64_t> wanted;
  for (const Group& group : groups_) wanted.push_back(group.number);
  size_t done = 0;
  while (done < groups_.size()) {
    const auto rest = std::span(wanted).subspan(done);
    const absl::StatusOr<size_t> brought =
        experts.source->Bring(experts.layer, rest);
    if (!brought.ok()) {
      Fail(groups_[done++], brought.status());
      continue;
    }
    Apply(sorted_, std::span<const Group>(groups_).subspan(done, *brought),
          moe_.intermediate_size, compute);
    done += *brought;
  }
}

void ExpertBlocks::Fail(const Group& group, const absl::Status& status) {
  Grow(results_, sorted_.m() * hidden_size_);
  std::fill(results_.begin() + group.begin * hidden_size_,
            results_.begin() + group.end * hidden_size_, 0.0f);
  for (int64_t r = group.begin; r < group.end; ++r) {
    failures_.push_back({plan_.tok[static_cast<size_t>(r)], status});
  }
}

void ExpertBlocks::Apply(const kernels::Activations& in,
                         std::span<const Group> groups, int64_t width,
                         Compute* compute) {
  const int64_t m = in.m();
  const int64_t d = hidden_size_;
  activated_.Resize(m, width);
  Grow(up_, m * width);
  Grow(results_, m * d);
  // Two panels are a block of 32: whoever computed it makes it int8.
  ForPanels(
      groups, width / kActivationBlock, compute,
      [&](const Group& g, int64_t first_pair, int64_t last_pair) {
        const int64_t begin = first_pair * kPanelsPerBlock;
        const int64_t end = last_pair * kPanelsPerBlock;
        ops_.matmul_rows(in, g.begin, g.end, g.expert->gate, begin, end,
                         activated_.row(0), activated_.stride());
        ops_.matmul_rows(in, g.begin, g.end, g.expert->up, begin, end,
                         up_.data(), width);
        const int64_t first = begin * kPanelRows;
        const int64_t count = std::min(end * kPanelRows, width) - first;
        for (int64_t i = g.begin; i < g.end; ++i) {
          float* gate = activated_.row(i) + first;
          ops_.silu_mul(gate, up_.data() + i * width + first, count, gate);
        }
        ops_.quantize_blocks(activated_, g.begin, g.end, first_pair, last_pair);
      });
  ForPanels(groups, kernels::NumPanels(d), compute,
            [&](const Group& g, int64_t begin, int64_t end) {
              ops_.matmul_rows(activated_, g.begin, g.end, g.expert->down,
                               begin, end, results_.data(), d);
            });
}

void ExpertBlocks::ForPanels(
    std::span<const Group> groups, int64_t panels, Compute* compute,
    const std::function<void(const Group&, int64_t, int64_t)>& body) {
  const int64_t all = static_cast<int64_t>(groups.size()) * panels;
  compute->ParallelFor(
      all, Grain(all, compute->threads()), [&](int64_t begin, int64_t end) {
        while (begin < end) {
          const int64_t g = begin / panels;
          const int64_t first = begin % panels;
          const int64_t last = std::min(panels, first + end - begin);
          body(groups[static_cast<size_t>(g)], first, last);
          begin += last - first;
        }
      });
}

}  // namespace conclave::engine
