// How long the first token of a model takes that is not in memory, beside the
// least it could take: a raw read of the same bytes, then the prompt.
//
//   conclave_bench_cold_start MODEL.gguf... [--prompt 128] [--rounds 7]
//
// One store for each model, so that a raw read of the store reads this model.
#include <absl/time/clock.h>
#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/machine.h"
#include "expert_workers/engine/engine.h"
#include "expert_workers/tokenizer/tokenizer.h"
#include "expert_workers/weights/ram_tier.h"
#include "expert_workers/weights/raw_read.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave {
namespace {

struct Options {
  std::vector<std::string> models;
  int64_t prompt = 128;
  int rounds = 7;
  int threads = 2;
};

double Milliseconds(int64_t since) {
  return static_cast<double>(Clock::Real().MonotonicNanos() - since) * 1e-6;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Ends when the first token is there. Every `round` has its own prompt.
void AskForOneToken(engine::Engine& engine, int64_t prompt, int round) {
  engine::EngineRequest request;
  request.request_id = "cold";
  for (int64_t i = 0; i < prompt; ++i) {
    request.prompt.push_back(static_cast<int32_t>(1000 + (i + round) % 977));
  }
  request.sampling.temperature = 0;
  request.sampling.max_tokens = 1;
  std::promise<absl::Status> done;
  const auto ticket = engine.Submit(
      std::move(request), [&done](const engine::EngineEvent& event) {
        if (event.finish != engine::FinishReason::kNone) {
          done.set_value(event.status);
        }
      });
  CHECK(ticket.ok(), "{}", Message(ticket.status()));
  const absl::Status status = done.get_future().get();
  CHECK(status.ok(), "{}", Message(status));
}

void Measure(const Options& options, const std::string& model) {
  const std::string directory = fmt::format("conclave-cold-start-{}", getpid());
  {
    auto store = weights::WeightStore::Open({.path = directory});
    CHECK(store.ok(), "{}", Message(store.status()));
    const auto entry = (*store)->Import(model, "model", nullptr);
    CHECK(entry.ok(), "{}", Message(entry.status()));
    ::sync();
    const auto manifest = *(*store)->Manifest("model");
    auto made = engine::Tokenizer::Create(manifest->spec.tokenizer);
    CHECK(made.ok(), "{}", Message(made.status()));
    const std::shared_ptr<const engine::Tokenizer> tokenizer = *std::move(made);
    const auto tier = weights::RamTier::Create(
        store->get(), manifest->total_bytes + (int64_t{64} << 20));
    const auto compute = engine::Compute::Create(options.threads);
    std::vector<double> raws, cold, prompts, ratios;
    int64_t bytes = 0;
    for (int round = 0; round < options.rounds; ++round) {
      int64_t start = Clock::Real().MonotonicNanos();
      bytes = weights::RawRead(directory);
      raws.push_back(Milliseconds(start));
      start = Clock::Real().MonotonicNanos();
      auto lease = tier->Acquire(manifest, absl::InfiniteFuture());
      CHECK(lease.ok(), "{}", Message(lease.status()));
      auto engine = engine::Engine::Create(
          *std::move(lease), tokenizer, compute.get(), {.prefix_cache = false});
      CHECK(engine.ok(), "{}", Message(engine.status()));
      AskForOneToken(**engine, options.prompt, 2 * round);
      cold.push_back(Milliseconds(start));
      start = Clock::Real().MonotonicNanos();
      AskForOneToken(**engine, options.prompt, 2 * round + 1);
      prompts.push_back(Milliseconds(start));
      ratios.push_back(cold.back() / (raws.back() + prompts.back()));
      engine->reset();
      tier->Evict(manifest->version);
    }
    std::sort(ratios.begin(), ratios.end());
    fmt::print(
        "| {} | {} MB | {:.0f} | {:.0f} | {:.0f} | **{:.2f}** | "
        "{:.2f}-{:.2f} |\n",
        std::filesystem::path(model).filename().string(), bytes / 1'000'000,
        Median(raws), Median(prompts), Median(cold), Median(ratios),
        ratios.front(), ratios.back());
    std::fflush(stdout);
  }
  std::filesystem::remove_all(directory);
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("The first token of a model that is not in memory");
  app.add_option("models", options.models, "GGUF files")->required();
  app.add_option("--prompt", options.prompt, "Tokens of the prompt");
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 1000));
  app.add_option("--threads", options.threads)->check(CLI::Range(1, 256));
  CLI11_PARSE(app, argc, argv);
  fmt::print("{}; prompt of {} tokens, medians of {}, ms\n\n", MachineLine(),
             options.prompt, options.rounds);
  fmt::print(
      "| model | bytes | raw read | prompt | cold first token | ratio | "
      "spread |\n|---|---|---|---|---|---|---|\n");
  for (const std::string& model : options.models) Measure(options, model);
  return 0;
}

}  // namespace
}  // namespace conclave

int main(int argc, char** argv) { return conclave::Main(argc, argv); }
