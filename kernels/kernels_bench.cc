// Speed of the kernels beside the machine's limits, in one run:
//
//   Read            GB/s of reading 256 MiB
//   Int8Peak        GOP/s in registers (peaks.h)
//   Fp32Peak        GFLOP/s of vfmadd in registers
//   Decode/TYPE     m = 1, weights of 96 MiB read once: GB/s against Read
//   Prompt/TYPE/m   weights of one layer's size: GOP/s against the peaks
//   Attention/n     the last n of 512 tokens, one layer of SmolLM2
//
// Each with 1 and 2 threads. All weights and activations are random.
#include <benchmark/benchmark.h>
#include <immintrin.h>
#include <sys/mman.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "base/machine.h"
#include "kernels/ops.h"
#include "kernels/peaks.h"
#include "kernels/test_weights.h"

namespace conclave::kernels {
namespace {

constexpr int64_t kHuge = int64_t{2} << 20;

AlignedBytes MakeHuge(int64_t bytes) {
  AlignedBytes memory = MakeAligned(bytes, kHuge);
  madvise(memory.get(), static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return memory;
}

// ---- Limits ----

[[gnu::target("avx2")]] int64_t ReadAll(const std::byte* p, int64_t bytes) {
  __m256i sum[4] = {};
  for (int64_t i = 0; i < bytes; i += 128) {
    _mm_prefetch(reinterpret_cast<const char*>(p + i + 2048), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(p + i + 2112), _MM_HINT_T0);
    for (int j = 0; j < 4; ++j) {
      sum[j] = _mm256_add_epi64(
          sum[j],
          _mm256_load_si256(reinterpret_cast<const __m256i*>(p + i) + j));
    }
  }
  const __m256i all = _mm256_add_epi64(_mm256_add_epi64(sum[0], sum[1]),
                                       _mm256_add_epi64(sum[2], sum[3]));
  return _mm256_extract_epi64(all, 0) ^ _mm256_extract_epi64(all, 3);
}

void Read(benchmark::State& state) {
  static const int64_t kBytes = int64_t{256} << 20;
  static const AlignedBytes memory = [] {
    AlignedBytes m = MakeHuge(kBytes);
    std::memset(m.get(), 1, static_cast<size_t>(kBytes));
    return m;
  }();
  const int64_t share = kBytes / state.threads();
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        ReadAll(memory.get() + state.thread_index() * share, share));
  }
  state.counters["GB/s"] =
      benchmark::Counter(static_cast<double>(share) * 1e-9 *
                             static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}

// The best instruction set that has a peak.
Isa PeakIsa() { return BestIsa() == Isa::kAvx512 ? Isa::kAvx512 : Isa::kAvx2; }

void Peak(benchmark::State& state, double (*run)(Isa)) {
  double operations = 0;
  for (auto _ : state) operations += run(PeakIsa());
  state.counters["GOP/s"] =
      benchmark::Counter(operations * 1e-9, benchmark::Counter::kIsRate);
}

void Int8Peak(benchmark::State& state) { Peak(state, RunInt8Peak); }
void Fp32Peak(benchmark::State& state) { Peak(state, RunFp32Peak); }

// ---- Matrix products ----

// Random panels: one panel repeated, since values do not change the speed.
struct BenchMatrix {
  AlignedBytes memory;
  PanelRun run;
  PackedMatrix matrix;
};

const BenchMatrix& MatrixOf(QuantType type, int64_t rows, int64_t cols) {
  static std::mutex mutex;
  static std::map<std::tuple<QuantType, int64_t, int64_t>,
                  std::unique_ptr<BenchMatrix>>
      matrices;
  const std::lock_guard<std::mutex> lock(mutex);
  auto& slot = matrices[{type, rows, cols}];
  if (slot == nullptr) {
    const TestMatrix one(type, 16, cols, 1);
    const int64_t panel_bytes = PanelBytes(type, cols);
    const int64_t num_panels = NumPanels(rows);
    slot = std::make_unique<BenchMatrix>();
    slot->memory = MakeHuge(num_panels * panel_bytes);
    for (int64_t p = 0; p < num_panels; ++p) {
      std::memcpy(slot->memory.get() + p * panel_bytes, one.packed().Panel(0),
                  static_cast<size_t>(panel_bytes));
    }
    slot->run = {slot->memory.get(), 0, num_panels};
    slot->matrix = {type, rows, cols, {&slot->run, 1}};
  }
  return *slot;
}

void Matmul(benchmark::State& state, Isa isa, QuantType type, int64_t rows,
            int64_t cols, int64_t m) {
  const PackedMatrix& w = MatrixOf(type, rows, cols).matrix;
  const Ops& ops = FastOps(isa);
  Activations x;
  x.Resize(m, cols);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < m * cols; ++i) x.row(0)[i] = normal(random);
  ops.quantize(x, 0, m);
  std::vector<float> out(static_cast<size_t>(m * rows));
  const int64_t begin = w.num_panels() * state.thread_index() / state.threads();
  const int64_t end =
      w.num_panels() * (state.thread_index() + 1) / state.threads();
  for (auto _ : state) {
    ops.matmul(x, w, begin, end, out.data(), rows);
    benchmark::ClobberMemory();
  }
  const double times = static_cast<double>(state.iterations()) *
                       static_cast<double>(end - begin);
  state.counters["GB/s"] = benchmark::Counter(
      times * 1e-9 * static_cast<double>(PanelBytes(type, cols)),
      benchmark::Counter::kIsRate);
  state.counters["GOP/s"] =
      benchmark::Counter(times * 2e-9 * static_cast<double>(16 * cols * m),
                         benchmark::Counter::kIsRate);
}

void RegisterMatmuls() {
  for (const Isa isa : SupportedIsas()) {
    if (isa == Isa::kScalar) continue;
    for (const QuantType type : kAllQuantTypes) {
      const std::string name =
          std::string(IsaName(isa)) + "/" + std::string(TraitsOf(type).name);
      const int64_t cols = 1536;
      const int64_t rows = (int64_t{96} << 20) / RowBytes(type, cols) / 16 * 16;
      for (const int threads : {1, 2}) {
        benchmark::RegisterBenchmark(
            ("Decode/" + name).c_str(),
            [=](benchmark::State& s) { Matmul(s, isa, type, rows, cols, 1); })
            ->Threads(threads)
            ->UseRealTime()
            ->Unit(benchmark::kMicrosecond);
        for (const int64_t m : {4, 64, 512}) {
          benchmark::RegisterBenchmark(
              ("Prompt/" + name + "/m" + std::to_string(m)).c_str(),
              [=](benchmark::State& s) { Matmul(s, isa, type, 1536, 768, m); })
              ->Threads(threads)
              ->UseRealTime()
              ->Unit(benchmark::kMicrosecond);
        }
      }
    }
  }
}

// ---- Attention and the encoder ----

void Attention(benchmark::State& state, Isa isa, int64_t queries) {
  // SmolLM2's heads; one layer, the last queries of 512 tokens.
  const int64_t heads = 9, kv_heads = 3, d = 64, tokens = 512;
  const Ops& ops = FastOps(isa);
  KvView kv;
  kv.num_kv_heads = kv_heads;
  kv.head_dim = d;
  const AlignedBytes memory = MakeAligned(16 * kv.PageBytes());
  std::vector<std::byte*> pages;
  for (int64_t p = 0; p < 16; ++p) {
    pages.push_back(memory.get() + p * kv.PageBytes());
  }
  kv.pages = pages;
  std::vector<float> q(static_cast<size_t>(tokens * heads * d), 0.1f);
  for (int64_t t = 0; t < tokens; ++t) ops.store_kv(kv, t, &q[t], &q[2 * t]);
  const int64_t first = tokens - queries;
  for (auto _ : state) {
    ops.attention(q.data(), heads * d, queries, first, heads, 0, heads, kv,
                  0.125f, 0, q.data(), heads * d);
    benchmark::ClobberMemory();
  }
  const auto pairs = static_cast<double>(queries * (first + tokens + 1)) / 2;
  state.counters["GOP/s"] =
      benchmark::Counter(pairs * static_cast<double>(heads * d * 4) * 1e-9 *
                             static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}

BENCHMARK(Read)->Threads(1)->Threads(2)->UseRealTime();
BENCHMARK(Int8Peak)->Threads(1)->Threads(2)->UseRealTime();
BENCHMARK(Fp32Peak)->Threads(1)->Threads(2)->UseRealTime();
void RegisterAttention() {
  for (const Isa isa : SupportedIsas()) {
    if (isa == Isa::kScalar) continue;
    for (const int64_t queries : {1, 33, 512}) {
      benchmark::RegisterBenchmark(
          ("Attention/" + std::string(IsaName(isa)) + "/" +
           std::to_string(queries))
              .c_str(),
          [=](benchmark::State& s) { Attention(s, isa, queries); })
          ->Unit(benchmark::kMicrosecond);
    }
  }
}

const bool kMachine =
    (benchmark::AddCustomContext("machine", MachineLine()), true);

const bool kRegistered = (RegisterMatmuls(), RegisterAttention(), true);

}  // namespace
}  // namespace conclave::kernels
