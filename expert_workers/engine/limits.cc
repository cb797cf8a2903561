#include "expert_workers/engine/limits.h"

#include <algorithm>
#include <atomic>

#include "base/check.h"
#include "base/clock.h"
#include "base/huge_array.h"
#include "kernels/ops.h"
#include "kernels/peaks.h"

namespace conclave::engine {
namespace {

constexpr int kRuns = 5;

double Now() {
  return static_cast<double>(Clock::Real().MonotonicNanos()) / 1e9;
}

// Sums `amount` over what one token is multiplied with.
template <typename Amount>
int64_t SumOverToken(const weights::ModelManifest& manifest, Amount amount) {
  bool has_head = false;
  for (const weights::UnitInfo& unit : manifest.units) {
    for (const weights::TensorInfo& tensor : unit.tensors) {
      has_head |= tensor.name == "output.weight";
    }
  }
  const weights::MoeHyperparameters& moe = manifest.spec.hyperparameters.moe;
  int64_t always = 0;
  int64_t experts = 0;
  for (const weights::UnitInfo& unit : manifest.units) {
    for (const weights::TensorInfo& tensor : unit.tensors) {
      if (tensor.name == "token_embd.weight" && has_head) continue;
      const bool expert = tensor.name.find("_exps.") != tensor.name.npos;
      (expert ? experts : always) += amount(tensor);
    }
  }
  if (moe.num_experts > 0) {
    experts = experts * moe.experts_per_token / moe.num_experts;
  }
  return always + experts;
}

}  // namespace

double ReadBandwidth(Compute* compute) {
  constexpr size_t kWords = (size_t{256} << 20) / sizeof(uint64_t);
  // On huge pages, as weights are.
  const HugeArray<uint64_t> memory(kWords, 1);
  Compute::Turn turn(compute);
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    std::atomic<uint64_t> total{0};
    const double start = Now();
    compute->ParallelFor(kWords, 1 << 16, [&](int64_t begin, int64_t end) {
      uint64_t sums[8] = {};
      for (int64_t i = begin; i < end; i += 8) {
        for (int64_t j = 0; j < 8; ++j) {
          sums[j] += memory[static_cast<size_t>(i + j)];
        }
      }
      for (const uint64_t sum : sums) total += sum;
    });
    const double taken = Now() - start;
    CHECK(total == kWords);
    best = std::max(best, kWords * sizeof(uint64_t) / taken);
  }
  return best;
}

double Int8Rate(Compute* compute) {
  const kernels::Isa isa = kernels::BestIsa();
  if (isa != kernels::Isa::kAvx2 && isa != kernels::Isa::kAvx512) return 0;
  constexpr int64_t kPieces = 400;
  Compute::Turn turn(compute);
  double best = 0;
  for (int run = 0; run < kRuns; ++run) {
    std::atomic<double> operations{0};
    const double start = Now();
    compute->ParallelFor(kPieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        operations.fetch_add(kernels::RunInt8Peak(isa));
      }
    });
    best = std::max(best, operations.load() / (Now() - start));
  }
  return best;
}

int64_t TokenBytes(const weights::ModelManifest& manifest) {
  return SumOverToken(manifest, [](const weights::TensorInfo& tensor) {
    int64_t bytes = 0;
    for (const weights::TensorRun& run : tensor.runs) {
      bytes += weights::RunBytes(tensor, run);
    }
    return bytes;
  });
}

int64_t TokenWeights(const weights::ModelManifest& manifest) {
  return SumOverToken(manifest, [](const weights::TensorInfo& tensor) {
    return tensor.rows * tensor.cols;
  });
}

}  // namespace conclave::engine
