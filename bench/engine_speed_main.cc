// Prompt and generation speed of our engine on one model: one JSON line a
// measurement, on request from standard input, so that a driver can interleave
// it with a peer in one run.
//
//   conclave_bench_engine_speed --model FILE.gguf --threads 2 --store DIR
//   > run          one measurement
//   > quit
#include <absl/time/clock.h>
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <future>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/units.h"
#include "expert_workers/engine/engine.h"
#include "expert_workers/tokenizer/tokenizer.h"
#include "expert_workers/weights/ram_tier.h"
#include "expert_workers/weights/weight_store.h"
#include "kernels/ops.h"

namespace conclave {
namespace {

struct Options {
  std::string model;
  std::string store = "/tmp/conclave-bench-store";
  int threads = 2;
  int prompt_tokens = 512;
  int generate_tokens = 64;
  int streams = 1;
};

// A name for the store from a file's name: lower case, grammar-safe.
std::string NameOf(const std::string& path) {
  std::string name = std::filesystem::path(path).stem().string();
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return name;
}

class SpeedBench {
 public:
  absl::Status Open(const Options& options) {
    options_ = options;
    std::filesystem::create_directories(options.store);
    ASSIGN_OR_RETURN(store_, weights::WeightStore::Open({options.store}));
    ASSIGN_OR_RETURN(const auto entry,
                     store_->Import(options.model, NameOf(options.model), {}));
    ASSIGN_OR_RETURN(manifest_, store_->Manifest(entry.version));
    tier_ = weights::RamTier::Create(store_.get(), TotalMemoryBytes() / 2);
    compute_ = engine::Compute::Create(options.threads);
    ASSIGN_OR_RETURN(auto lease,
                     tier_->Acquire(manifest_, absl::InfiniteFuture()));
    ASSIGN_OR_RETURN(tokenizer_,
                     engine::Tokenizer::Create(manifest_->spec.tokenizer));
    engine::EngineOptions engine_options;
    engine_options.max_batch = 8;
    ASSIGN_OR_RETURN(engine_,
                     engine::Engine::Create(std::move(lease), tokenizer_,
                                            compute_.get(), engine_options));
    return absl::OkStatus();
  }

  absl::StatusOr<nlohmann::json> Measure() {
    // Fresh prompts each time: a prefix cache must not help.
    ASSIGN_OR_RETURN(const double prompt_seconds, Seconds(1, 1));
    ASSIGN_OR_RETURN(const double both_seconds,
                     Seconds(1 + options_.generate_tokens, options_.streams));
    double stream_prompt_seconds = prompt_seconds;
    if (options_.streams > 1) {
      ASSIGN_OR_RETURN(stream_prompt_seconds, Seconds(1, options_.streams));
    }
    return nlohmann::json{
        {"prompt_tok_s", options_.prompt_tokens / prompt_seconds},
        {"generate_tok_s", options_.streams * options_.generate_tokens /
                               (both_seconds - stream_prompt_seconds)},
        {"weights_bytes", manifest_->total_bytes},
        {"isa", std::string(kernels::IsaName(kernels::BestIsa()))},
        {"threads", options_.threads},
        {"streams", options_.streams}};
  }

 private:
  // From submission of `streams` prompts to the last token of all.
  absl::StatusOr<double> Seconds(int max_tokens, int streams) {
    std::vector<std::promise<absl::Status>> done(static_cast<size_t>(streams));
    const int64_t start = Clock::Real().MonotonicNanos();
    for (int s = 0; s < streams; ++s) {
      engine::EngineRequest request;
      request.request_id = fmt::format("bench-{}", ++serial_);
      for (int i = 0; i < options_.prompt_tokens; ++i) {
        request.prompt.push_back(static_cast<int32_t>(
            1000 +
            (static_cast<int64_t>(i) * 7919 + serial_ * 104729) % 20000));
      }
      request.sampling.temperature = 0;
      request.sampling.max_tokens = max_tokens;
      request.sampling.ignore_eos = true;
      auto& promise = done[static_cast<size_t>(s)];
      RETURN_IF_ERROR(
          engine_
              ->Submit(std::move(request),
                       [&promise](const engine::EngineEvent& event) {
                         if (event.finish != engine::FinishReason::kNone) {
                           promise.set_value(event.status);
                         }
                       })
              .status());
    }
    for (auto& promise : done) RETURN_IF_ERROR(promise.get_future().get());
    return static_cast<double>(Clock::Real().MonotonicNanos() - start) / 1e9;
  }

  Options options_;
  std::unique_ptr<weights::WeightStore> store_;
  std::shared_ptr<const weights::ModelManifest> manifest_;
  std::unique_ptr<weights::RamTier> tier_;
  std::unique_ptr<engine::Compute> compute_;
  std::shared_ptr<const engine::Tokenizer> tokenizer_;
  std::unique_ptr<engine::Engine> engine_;
  int64_t serial_ = 0;
};

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Prompt and generation speed of one model");
  app.add_option("--model", options.model, "GGUF file")->required();
  app.add_option("--store", options.store, "Where to import it");
  app.add_option("--threads", options.threads, "Threads");
  app.add_option("--prompt", options.prompt_tokens, "Prompt tokens");
  app.add_option("--generate", options.generate_tokens, "Generated tokens");
  app.add_option("--streams", options.streams, "Requests together");
  CLI11_PARSE(app, argc, argv);
  SpeedBench bench;
  if (const absl::Status opened = bench.Open(options); !opened.ok()) {
    std::fprintf(stderr, "%s\n", std::string(Message(opened)).c_str());
    return 1;
  }
  std::string line;
  while (std::getline(std::cin, line) && line != "quit") {
    const auto result = bench.Measure();
    if (!result.ok()) {
      std::fprintf(stderr, "%s\n",
                   std::string(Message(result.status())).c_str());
      return 1;
    }
    std::printf("%s\n", result->dump().c_str());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace conclave

int main(int argc, char** argv) { return conclave::Main(argc, argv); }
