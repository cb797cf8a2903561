#include "expert_workers/engine/forward/experts.h"

#include <algorithm>
#include <cmath>

#include "expert_workers/engine/forward/logits_math.h"
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

double Sigmoid(double x) {
  const float minus = -static_cast<float>(std::abs(x));
  double small = 0;
  ExpWeights({&minus, 1}, 0.0f, 1.0, &small);
  return (x < 0 ? small : 1.0) / (1 + small);
}

}  // namespace

void ExpertBlocks::Route(const kernels::Activations& hidden,
                         const float* logits) {
  const int64_t m = hidden.m();
  const int64_t k = moe_.experts_per_token;
  const int64_t num_experts = moe_.num_experts;
  Grow(chosen_, m * k);
  Grow(weights_, m * k);
  Grow(place_, m * k);
  offsets_.assign(static_cast<size_t>(num_experts + 1), 0);
  std::vector<double> odds(static_cast<size_t>(num_experts));
  for (int64_t i = 0; i < m; ++i) {
    const float* row = logits + i * num_experts;
    int32_t* chosen = chosen_.data() + i * k;
    int64_t count = 0;
    for (int64_t e = 0; e < num_experts; ++e) {
      if (count == k && !(row[e] > row[chosen[k - 1]])) continue;
      int64_t at = count < k ? count++ : k - 1;
      for (; at > 0 && row[e] > row[chosen[at - 1]]; --at) {
        chosen[at] = chosen[at - 1];
      }
      chosen[at] = static_cast<int32_t>(e);
    }
    // softmax over all experts, or over those chosen.
    ExpWeights({row, static_cast<size_t>(num_experts)}, row[chosen[0]], 1.0,
               odds.data());
    double sum = 0;
    if (moe_.renormalize) {
      for (int64_t j = 0; j < k; ++j) sum += odds[chosen[j]];
    } else {
      for (int64_t e = 0; e < num_experts; ++e) sum += odds[e];
    }
    float* weights = weights_.data() + i * k;
    for (int64_t j = 0; j < k; ++j) {
      weights[j] = static_cast<float>(odds[chosen[j]] / sum);
      ++offsets_[static_cast<size_t>(chosen[j] + 1)];
    }
  }
  for (int64_t e = 0; e < num_experts; ++e) {
    offsets_[static_cast<size_t>(e + 1)] += offsets_[static_cast<size_t>(e)];
  }
  std::vector<int64_t> next(offsets_.begin(), offsets_.end() - 1);
  for (int64_t a = 0; a < m * k; ++a) {
    place_[static_cast<size_t>(a)] =
        next[static_cast<size_t>(chosen_[static_cast<size_t>(a)])]++;
  }
}

void ExpertBlocks::Add(const kernels::Activations& hidden,
                       const families::MoeTensors& tensors, Compute* compute,
                       float* x) {
  const int64_t m = hidden.m();
  const int64_t k = moe_.experts_per_token;
  const auto copied = kernels::Activations::Copied::kBothForms;
  sorted_.Resize(m * k, hidden_size_);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      sorted_.CopyRow(place_[static_cast<size_t>(i * k + j)], hidden, i,
                      copied);
    }
  }
  std::vector<Group> groups;
  for (int64_t e = 0; e < moe_.num_experts; ++e) {
    const Group group{&tensors.experts[static_cast<size_t>(e)],
                      offsets_[static_cast<size_t>(e)],
                      offsets_[static_cast<size_t>(e + 1)]};
    if (group.begin < group.end) groups.push_back(group);
  }
  Apply(sorted_, groups, moe_.intermediate_size, compute);

  const int64_t d = hidden_size_;
  compute->ParallelFor(
      m, Grain(m, compute->threads()), [&](int64_t begin, int64_t end) {
        std::vector<float> sum(static_cast<size_t>(d));
        for (int64_t i = begin; i < end; ++i) {
          std::fill(sum.begin(), sum.end(), 0.0f);
          for (int64_t j = 0; j < k; ++j) {
            const auto a = static_cast<size_t>(i * k + j);
            const float* result = results_.data() + place_[a] * d;
            const float weight = weights_[a];
            for (int64_t c = 0; c < d; ++c) {
              sum[static_cast<size_t>(c)] += weight * result[c];
            }
          }
          ops_.add(x + i * d, sum.data(), d);
        }
      });
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
    const auto weight = static_cast<float>(Sigmoid(logit));
    float* result = results_.data() + i * d;
    for (int64_t c = 0; c < d; ++c) result[c] *= weight;
    ops_.add(x + i * d, result, d);
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
