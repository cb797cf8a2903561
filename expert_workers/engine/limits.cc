#include "expert_workers/engine/limits.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "kernels/ops.h"
#include "kernels/peaks.h"

namespace conclave::engine {
namespace {

constexpr int kRuns = 5;

double Now() {
  return static_cast<double>(Clock::Real().MonotonicNanos()) / 1e9;
}

template <typename Add>
void ForEachTokenTensor(const weights::ModelManifest& manifest, Add add) {
  bool has_head = false;
  for (const weights::UnitInfo& unit : manifest.units) {
    for (const weights::TensorInfo& tensor : unit.tensors) {
      has_head |= tensor.name == "output.weight";
    }
  }
  for (const weights::UnitInfo& unit : manifest.units) {
    for (const weights::TensorInfo& tensor : unit.tensors) {
      if (tensor.name == "token_embd.weight" && has_head) continue;
      add(tensor);
    }
  }
}

}  // namespace

double ReadBandwidth(Compute* compute) {
  constexpr size_t kWords = (size_t{256} << 20) / sizeof(uint64_t);
  const std::vector<uint64_t> memory(kWords, 1);
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
  int64_t bytes = 0;
  ForEachTokenTensor(manifest, [&](const weights::TensorInfo& tensor) {
    for (const weights::TensorRun& run : tensor.runs) {
      bytes += weights::RunBytes(tensor, run);
    }
  });
  return bytes;
}

int64_t TokenWeights(const weights::ModelManifest& manifest) {
  int64_t weights = 0;
  ForEachTokenTensor(manifest, [&](const weights::TensorInfo& tensor) {
    weights += tensor.rows * tensor.cols;
  });
  return weights;
}

}  // namespace conclave::engine
