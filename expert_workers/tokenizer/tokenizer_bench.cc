// Encoding speed, in bytes of text a second, on the strings of this file's
// neighbours: prose-like, code-like and hostile.
#include <benchmark/benchmark.h>

#include <fstream>
#include <sstream>

#include "base/machine.h"
#include "expert_workers/tokenizer/testing_specs.h"
#include "expert_workers/tokenizer/tokenizer.h"

namespace conclave::engine {
namespace {

const bool kMachine =
    (benchmark::AddCustomContext("machine", MachineLine()), true);

std::string ReadText(const char* path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  std::string once = std::move(text).str();
  std::string all;
  while (!once.empty() && all.size() < (1u << 20)) all += once;
  return all;
}

void Run(benchmark::State& state, const weights::TokenizerSpec& spec,
         const std::string& text) {
  const auto tokenizer = Tokenizer::Create(spec);
  if (!tokenizer.ok() || text.empty()) {
    return state.SkipWithError("no model or no text");
  }
  size_t tokens = 0;
  for (auto _ : state) {
    tokens = (*tokenizer)->Encode(text, SpecialTokens::kAsText).size();
    benchmark::DoNotOptimize(tokens);
  }
  state.SetBytesProcessed(state.iterations() *
                          static_cast<int64_t>(text.size()));
  state.counters["tokens"] = static_cast<double>(tokens);
}

void RunGguf(benchmark::State& state, const char* file,
             const std::string& text) {
  const auto spec = testing::ReadGgufSpec(file);
  if (!spec) return state.SkipWithError("model is not there");
  Run(state, spec->tokenizer, text);
}

void BM_SmolLm2Code(benchmark::State& state) {
  RunGguf(state, testing::kSmolLm2,
          ReadText("expert_workers/tokenizer/tokenizer.cc"));
}
BENCHMARK(BM_SmolLm2Code)->Unit(benchmark::kMillisecond);

void BM_QwenCode(benchmark::State& state) {
  RunGguf(state, testing::kQwen2Coder,
          ReadText("expert_workers/tokenizer/tokenizer.cc"));
}
BENCHMARK(BM_QwenCode)->Unit(benchmark::kMillisecond);

void BM_QwenProse(benchmark::State& state) {
  RunGguf(state, testing::kQwen2Coder,
          ReadText("expert_workers/tokenizer/README.md"));
}
BENCHMARK(BM_QwenProse)->Unit(benchmark::kMillisecond);

void BM_QwenOneLetter(benchmark::State& state) {
  RunGguf(state, testing::kQwen2Coder, std::string(1 << 20, 'a'));
}
BENCHMARK(BM_QwenOneLetter)->Unit(benchmark::kMillisecond);

void BM_MiniLmProse(benchmark::State& state) {
  const auto spec = testing::ReadMiniLmSpec();
  if (!spec) return state.SkipWithError("model is not there");
  Run(state, *spec, ReadText("expert_workers/tokenizer/README.md"));
}
BENCHMARK(BM_MiniLmProse)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace conclave::engine
