// Import, and cold verified reads against a raw O_DIRECT read of the same
// bytes in the same run (this disk swings by two). Needs the real models.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/machine.h"
#include "expert_workers/weights/byte_source.h"
#include "expert_workers/weights/ram_tier.h"
#include "expert_workers/weights/raw_read.h"
#include "expert_workers/weights/test_files.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::weights {
namespace {

const bool kMachine =
    (benchmark::AddCustomContext("machine", MachineLine()), true);

constexpr char kModel[] = "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf";
constexpr char kLargeModel[] = "Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf";

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since)
      .count();
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void Import(benchmark::State& state) {
  const std::string path = testing::RealModel(kModel);
  if (path.empty()) return state.SkipWithError("the model is not here");
  int64_t bytes = 0;
  for (auto _ : state) {
    const testing::TempDir directory;
    auto store = WeightStore::Open({.path = directory / "store"});
    const auto start = std::chrono::steady_clock::now();
    const auto entry = (*store)->Import(path, "model", nullptr);
    state.SetIterationTime(Seconds(start));
    if (!entry.ok()) return state.SkipWithError("import failed");
    bytes += static_cast<int64_t>(std::filesystem::file_size(path));
  }
  state.SetBytesProcessed(bytes);
}
BENCHMARK(Import)->UseManualTime()->Iterations(3)->Unit(
    benchmark::kMillisecond);

// SHA-256 of the source alone: what an import cannot be faster than.
void SourceDigestOnly(benchmark::State& state) {
  const std::string path = testing::RealModel(kModel);
  if (path.empty()) return state.SkipWithError("the model is not here");
  for (auto _ : state) {
    auto file = OpenFile(path);
    benchmark::DoNotOptimize(SourceDigest({*std::move(file)}));
  }
  state.SetBytesProcessed(
      state.iterations() *
      static_cast<int64_t>(std::filesystem::file_size(path)));
}
BENCHMARK(SourceDigestOnly)
    ->UseRealTime()
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond);

using Models = std::vector<std::pair<const char*, const char*>>;  // file, name

// Reads models cold and verified, each next to a raw read of every file in the
// store, into fresh memory (nothing was there before) or into that of the model
// which it displaces.
void ColdReadAgainstRaw(benchmark::State& state, const Models& models,
                        bool displace) {
  const testing::TempDir directory;
  auto store = WeightStore::Open({.path = directory / "store"});
  std::vector<std::shared_ptr<const ModelManifest>> manifests;
  int64_t largest = 0;
  for (const auto& [file, name] : models) {
    const std::string path = testing::RealModel(file);
    if (path.empty()) return state.SkipWithError("the model is not here");
    if (!(*store)->Import(path, name, nullptr).ok()) {
      return state.SkipWithError("import failed");
    }
    manifests.push_back(*(*store)->Manifest(name));
    largest = std::max(largest, manifests.back()->total_bytes);
  }
  ::sync();
  const auto tier = RamTier::Create(store->get(), largest + (16 << 20));
  std::vector<double> raw;
  std::vector<double> verified;
  std::vector<double> ratios;
  for (auto _ : state) {
    auto start = std::chrono::steady_clock::now();
    const int64_t bytes = RawRead(directory / "store");
    raw.push_back(static_cast<double>(bytes) / 1e6 / Seconds(start));
    start = std::chrono::steady_clock::now();
    int64_t read = 0;
    for (const auto& manifest : manifests) {
      const auto lease = tier->Acquire(manifest, absl::InfiniteFuture());
      if (!lease.ok()) return state.SkipWithError("reading failed");
      read += manifest->total_bytes;
    }
    verified.push_back(static_cast<double>(read) / 1e6 / Seconds(start));
    ratios.push_back(verified.back() / raw.back());
    if (!displace) {
      for (const auto& manifest : manifests) tier->Evict(manifest->version);
    }
  }
  state.counters["raw_MBps"] = Median(raw);
  state.counters["verified_MBps"] = Median(verified);
  state.counters["ratio_p50"] = Median(ratios);
  state.counters["ratio_min"] = *std::ranges::min_element(ratios);
  state.counters["ratio_max"] = *std::ranges::max_element(ratios);
}
BENCHMARK_CAPTURE(ColdReadAgainstRaw, fresh_memory, Models{{kModel, "small"}},
                  false)
    ->Iterations(7)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(ColdReadAgainstRaw, switching,
                  Models{{kModel, "small"}, {kLargeModel, "large"}}, true)
    ->Iterations(7)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace conclave::weights
