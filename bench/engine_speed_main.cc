// Speed of our engine on one model: one JSON line a measurement, on request
// from standard input, so that a driver can interleave it with a peer in one
// run.
//
//   conclave_bench_engine_speed --model FILE.gguf --threads 2 --store DIR
//   > one          a prompt, and generation behind it
//   > streams      generation of several streams together
//   > limits       what this machine reads and multiplies per second, and what
//                  one token of this model needs of both
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
#include "expert_workers/engine/limits.h"
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
  int streams = 8;
  int stream_prompt_tokens = 64;
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
    // The peer computes every token, so we do.
    engine_options.max_draft = 0;
    engine_options.prefix_cache = false;
    ASSIGN_OR_RETURN(engine_,
                     engine::Engine::Create(std::move(lease), tokenizer_,
                                            compute_.get(), engine_options));
    return absl::OkStatus();
  }

  // One stream: a prompt, and generation behind it.
  absl::StatusOr<nlohmann::json> MeasureOne() {
    ASSIGN_OR_RETURN(
        const std::vector<Times> times,
        Run(1, options_.prompt_tokens, 1 + options_.generate_tokens));
    const Times& t = times.front();
    return nlohmann::json{
        {"prompt_tok_s", options_.prompt_tokens / (t.at.front() - t.submitted)},
        {"generate_tok_s",
         options_.generate_tokens / (t.at.back() - t.at.front())}};
  }

  // Tokens per second of all streams together, while every one generates.
  absl::StatusOr<nlohmann::json> MeasureStreams() {
    // The first to start waits for the prompts of the others; it must not end
    // before the last has generated for a while.
    ASSIGN_OR_RETURN(const std::vector<Times> times,
                     Run(options_.streams, options_.stream_prompt_tokens,
                         1 + 3 * options_.generate_tokens));
    double begin = 0, end = times.front().at.back();
    for (const Times& t : times) {
      begin = std::max(begin, t.at.front());
      end = std::min(end, t.at.back());
    }
    int64_t tokens = 0;
    for (const Times& t : times) {
      for (const double at : t.at) tokens += at > begin && at <= end;
    }
    if (tokens == 0) {
      return Internal("no moment when all streams generate; raise --generate");
    }
    return nlohmann::json{
        {"streams_tok_s", static_cast<double>(tokens) / (end - begin)}};
  }

  // What this machine can do at most, with as many threads.
  nlohmann::json MeasureLimits() {
    const kernels::Isa isa = kernels::BestIsa();
    return nlohmann::json{
        {"isa", kernels::IsaName(isa)},
        {"read_bytes_s", engine::ReadBandwidth(compute_.get())},
        {"int8_ops_s", engine::Int8Rate(compute_.get())},
        {"token_bytes", engine::TokenBytes(*manifest_)},
        {"token_ops", 2 * engine::TokenWeights(*manifest_)}};
  }

 private:
  // When a request was submitted, and when each of its tokens came; seconds.
  struct Times {
    double submitted = 0;
    std::vector<double> at;
  };

  static double Now() {
    return static_cast<double>(Clock::Real().MonotonicNanos()) / 1e9;
  }

  // `streams` requests together, each with a prompt of its own, never one
  // that was there before: a prefix cache must not help.
  absl::StatusOr<std::vector<Times>> Run(int streams, int prompt_tokens,
                                         int max_tokens) {
    std::vector<Times> times(static_cast<size_t>(streams));
    std::vector<std::promise<absl::Status>> done(times.size());
    for (size_t s = 0; s < times.size(); ++s) {
      engine::EngineRequest request;
      request.request_id = fmt::format("bench-{}", ++serial_);
      for (int64_t i = 0; i < prompt_tokens; ++i) {
        request.prompt.push_back(
            static_cast<int32_t>(1000 + (i * 7919 + serial_ * 104729) % 20000));
      }
      request.sampling.temperature = 0;
      request.sampling.max_tokens = max_tokens;
      request.sampling.ignore_eos = true;
      times[s].submitted = Now();
      RETURN_IF_ERROR(
          engine_
              ->Submit(std::move(request),
                       [&mine = times[s],
                        &promise = done[s]](const engine::EngineEvent& event) {
                         mine.at.insert(mine.at.end(), event.tokens.size(),
                                        Now());
                         if (event.finish != engine::FinishReason::kNone) {
                           promise.set_value(event.status);
                         }
                       })
              .status());
    }
    for (auto& promise : done) RETURN_IF_ERROR(promise.get_future().get());
    return times;
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
  app.add_option("--stream-prompt", options.stream_prompt_tokens,
                 "Prompt tokens of each of these");
  CLI11_PARSE(app, argc, argv);
  SpeedBench bench;
  if (const absl::Status opened = bench.Open(options); !opened.ok()) {
    std::fprintf(stderr, "%s\n", std::string(Message(opened)).c_str());
    return 1;
  }
  std::string line;
  while (std::getline(std::cin, line) && line != "quit") {
    absl::StatusOr<nlohmann::json> result =
        InvalidArgument("'{}' is none of: one, streams, limits, quit", line);
    if (line == "one") result = bench.MeasureOne();
    if (line == "streams") result = bench.MeasureStreams();
    if (line == "limits") result = bench.MeasureLimits();
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
