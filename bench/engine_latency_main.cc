// How long people wait on a real model, beside the goals: the first token of a
// model that is on disk, a conversation's next turn, a running stream beside
// somebody's long prompt; and the end of a cancelled prompt.
//
//   conclave_bench_engine_latency [FILE...] [--prompt=4000] [--runs=5]
//       [--threads=2] [--only=cold,turn,stream,cancel] [--chunk=256] [--fixed]
//       [--cold-prompt=128] [--directory=.]
//
// FILE is a name in the models' folder (real_model.h). --fixed cuts prompts by
// number instead of by time. --directory: where the cold start's store is made
// for the run; not in memory. What is compared is measured in the same run, in
// turns.
#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/machine.h"
#include "bench/cold_start.h"
#include "expert_workers/engine/bench_prompts.h"
#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/real_model.h"
#include "expert_workers/engine/run_requests.h"

namespace conclave::engine {
namespace {

constexpr int kStreams = 8;

// The goals. The turn's is for SmolLM2.
constexpr double kColdRatio = 1.3;  // of a raw read and the prompt
constexpr double kTurnSeconds = 0.06;
constexpr double kStreamRatio = 2.5;  // p99 beside a prompt, of p50 alone

std::string Against(double value, double goal, const char* unit) {
  return fmt::format("goal {:g}{}: {}", goal, unit,
                     value <= goal ? "met" : "MISSED");
}

struct Options {
  std::vector<std::string> files;
  std::string only = "cold,turn,stream,cancel";
  std::string directory = ".";
  int64_t cold_prompt = 128;
  int threads = 2;
  int runs = 5;
  int64_t prompt = 4000;
  int32_t chunk = 256;
  bool paced = true;

  bool Wants(std::string_view part) const {
    return only.find(part) != std::string::npos;
  }
};

// A request that runs, and when each of its tokens came.
class Stream {
 public:
  Stream(Engine& engine, std::vector<int32_t> prompt, int64_t max_tokens,
         std::string tenant = {})
      : engine_(engine), collector_(1), submitted_(Seconds()) {
    EngineRequest request;
    request.request_id = "bench";
    request.tenant = std::move(tenant);
    request.prompt = std::move(prompt);
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = max_tokens;
    EventSink sink = collector_.Sink();
    const auto ticket =
        engine.Submit(std::move(request), [this, sink](const EngineEvent& e) {
          {
            std::lock_guard lock(mutex_);
            at_.insert(at_.end(), e.tokens.size(), Seconds());
          }
          sink(e);
        });
    CHECK(ticket.ok(), "{}", Message(ticket.status()));
    ticket_ = *ticket;
  }
  ~Stream() {
    engine_.Cancel(ticket_);
    collector_.Wait();
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Outcome Wait() { return collector_.Wait()[0]; }
  void WaitForTokens(size_t count) { collector_.WaitForTokens(count); }
  // Seconds from Cancel to the last event.
  double Cancel() {
    const double start = Seconds();
    engine_.Cancel(ticket_);
    collector_.Wait();
    return Seconds() - start;
  }
  double FirstToken() {
    std::lock_guard lock(mutex_);
    return at_.at(0) - submitted_;
  }
  double submitted() const { return submitted_; }
  std::vector<double> Times() {
    std::lock_guard lock(mutex_);
    return at_;
  }
  size_t count() {
    std::lock_guard lock(mutex_);
    return at_.size();
  }

 private:
  Engine& engine_;
  Collector collector_;
  const double submitted_;
  uint64_t ticket_ = 0;
  std::mutex mutex_;
  std::vector<double> at_;
};

// Time to the first token of a conversation's second turn: 2000 tokens that
// the engine has seen, 32 that are new; and of the same prompt from a tenant
// that it has not seen.
void BenchTurn(Engine& engine, int64_t vocab, const Options& options,
               const std::string& name) {
  constexpr int64_t kAnswer = 100;
  constexpr int64_t kConversation = 2000;
  std::vector<double> cached, fresh;
  for (int run = 0; run < options.runs; ++run) {
    const auto serial = static_cast<uint32_t>(1000 + run);
    std::vector<int32_t> prompt =
        BenchPrompt(serial, kConversation - kAnswer, vocab);
    Stream first(engine, prompt, kAnswer, "somebody");
    for (const TokenEvent& token : first.Wait().tokens) {
      prompt.push_back(token.token);
    }
    const auto more = BenchPrompt(serial + 1000, 32, vocab);
    prompt.insert(prompt.end(), more.begin(), more.end());
    Stream second(engine, prompt, 1, "somebody");
    const Outcome here = second.Wait();
    Stream stranger(engine, prompt, 1, fmt::format("stranger {}", run));
    const Outcome there = stranger.Wait();
    CHECK(here.tokens[0].token == there.tokens[0].token);
    CHECK(here.cached_token_count >= kConversation - 1 &&
          there.cached_token_count == 0);
    cached.push_back(second.FirstToken());
    fresh.push_back(stranger.FirstToken());
  }
  fmt::print(
      "  next turn, {} tokens known and 32 new: first token after {:.1f} ms "
      "(largest {:.1f}), without the cache {:.0f} ms{}\n",
      kConversation, 1e3 * Median(cached), 1e3 * Quantile(cached, 1),
      1e3 * Median(fresh),
      name.starts_with("SmolLM2")
          ? "; " + Against(1e3 * Median(cached), 1e3 * kTurnSeconds, " ms")
          : "");
  std::fflush(stdout);
}

// Times between tokens of eight streams, from `begin` to `end`.
std::vector<double> Gaps(const std::vector<std::unique_ptr<Stream>>& streams,
                         double begin, double end) {
  std::vector<double> gaps;
  for (const auto& stream : streams) {
    const std::vector<double> at = stream->Times();
    for (size_t i = 1; i < at.size(); ++i) {
      if (at[i - 1] >= begin && at[i] <= end) {
        gaps.push_back(at[i] - at[i - 1]);
      }
    }
  }
  return gaps;
}

// Eight streams alone, beside a long prompt, and alone again: their own texts
// grow meanwhile, and a step with them; in turns.
void BenchStreams(Engine& engine, int64_t vocab, const Options& options) {
  constexpr size_t kAlone = 100;  // tokens of a stream, before and after
  std::vector<double> alone, beside, prompt_seconds;
  const int rounds = std::max(options.runs / 2, 1);
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::unique_ptr<Stream>> streams;
    for (int i = 0; i < kStreams; ++i) {
      streams.push_back(std::make_unique<Stream>(
          engine, BenchPrompt(static_cast<uint32_t>(i), 32, vocab), -1));
    }
    for (auto& stream : streams) stream->WaitForTokens(4);
    const double start = Seconds();
    streams[0]->WaitForTokens(streams[0]->count() + kAlone);
    const double arrival = Seconds();
    Stream prompt(
        engine,
        BenchPrompt(static_cast<uint32_t>(77 + round), options.prompt, vocab),
        1);
    prompt.Wait();
    const double end = Seconds();
    streams[0]->WaitForTokens(streams[0]->count() + kAlone);
    for (const double gap : Gaps(streams, start, arrival)) {
      alone.push_back(gap);
    }
    for (const double gap : Gaps(streams, end, Seconds())) {
      alone.push_back(gap);
    }
    for (const double gap : Gaps(streams, arrival, end)) {
      beside.push_back(gap);
    }
    prompt_seconds.push_back(end - arrival);
  }
  const double p50 = Median(alone);
  fmt::print(
      "  eight streams alone: p50 {:.1f} ms, p99 {:.1f} ms between tokens; "
      "beside a prompt of {}: p50 {:.1f}, p99 {:.1f} = {:.2f} x the p50 alone; "
      "the prompt took {:.1f} s; {}\n",
      1e3 * p50, 1e3 * Quantile(alone, 0.99), options.prompt,
      1e3 * Median(beside), 1e3 * Quantile(beside, 0.99),
      Quantile(beside, 0.99) / p50, Median(prompt_seconds),
      Against(Quantile(beside, 0.99) / p50, kStreamRatio, " x"));
  std::fflush(stdout);
}

// Long prompts are cancelled on the way, every second time two at once.
void BenchCancel(Engine& engine, int64_t vocab, const Options& options) {
  std::vector<double> one, both;
  for (int run = 0; run < 4 * options.runs; ++run) {
    const auto serial = static_cast<uint32_t>(5000 + 2 * run);
    Stream a(engine, BenchPrompt(serial, options.prompt, vocab), 1);
    Stream b(engine, BenchPrompt(serial + 1, options.prompt, vocab), 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(150 + 7 * run));
    const double first = a.Cancel();
    if (run % 2 == 0) {
      both.push_back(b.Cancel());
    }
    one.push_back(first);
  }
  fmt::print(
      "  a cancelled prompt of {} ends after {:.1f} ms (largest {:.1f}), one "
      "cancelled right after another {:.1f} ms (largest {:.1f})\n",
      options.prompt, 1e3 * Median(one), 1e3 * Quantile(one, 1),
      1e3 * Median(both), 1e3 * Quantile(both, 1));
  std::fflush(stdout);
}

// The first token of a model that is on disk alone.
void BenchCold(const std::string& path, const Options& options) {
  ColdStartBench bench(options.directory +
                       fmt::format("/conclave-cold-start-{}", getpid()));
  const absl::Status imported = bench.Import(path);
  CHECK(imported.ok(), "{}", Message(imported));
  std::vector<double> raw, prompt, started, again, started_ratio, again_ratio;
  int64_t bytes = 0;
  for (int run = 0; run < options.runs; ++run) {
    const auto result = bench.Run(options.cold_prompt, options.threads);
    CHECK(result.ok(), "{}", Message(result.status()));
    bytes = result->bytes;
    raw.push_back(result->raw);
    prompt.push_back(result->prompt);
    started.push_back(result->started);
    again.push_back(result->again);
    started_ratio.push_back(result->Ratio(result->started));
    again_ratio.push_back(result->Ratio(result->again));
  }
  fmt::print(
      "  cold: raw read of {} MB {:.0f} ms, prompt of {} {:.0f} ms; first "
      "token of a worker just started {:.0f} ms = {:.2f} x both ({:.2f} to "
      "{:.2f}), {}; of a model that was displaced {:.0f} ms = {:.2f} x "
      "({:.2f} to {:.2f}), {}\n",
      bytes / 1'000'000, 1e3 * Median(raw), options.cold_prompt,
      1e3 * Median(prompt), 1e3 * Median(started), Median(started_ratio),
      Quantile(started_ratio, 0), Quantile(started_ratio, 1),
      Against(Median(started_ratio), kColdRatio, " x"), 1e3 * Median(again),
      Median(again_ratio), Quantile(again_ratio, 0), Quantile(again_ratio, 1),
      Against(Median(again_ratio), kColdRatio, " x"));
  std::fflush(stdout);
}

void Bench(const std::string& file, const Options& options) {
  fmt::print("{}\n", file);
  const std::filesystem::path path = RealModels::Folder() / file;
  if (!std::filesystem::exists(path)) {
    fmt::print("  not here\n");
    return;
  }
  if (options.Wants("cold")) BenchCold(path, options);
  if (!options.Wants("turn") && !options.Wants("stream") &&
      !options.Wants("cancel")) {
    return;
  }
  const auto compute = Compute::Create(options.threads);
  // An engine as it is served, and one that guesses nothing ahead: guesses come
  // in bunches, so that times between tokens would say nothing of steps, and
  // beside a prompt there are none.
  const auto make = [&](int32_t max_draft) {
    auto lease = RealModels::Get().Lease(file);
    const auto tokenizer = RealModels::MakeTokenizer(*lease);
    auto engine = Engine::Create(std::move(lease), tokenizer, compute.get(),
                                 {.kv_budget_bytes = int64_t{2} << 30,
                                  .prefill_chunk = options.chunk,
                                  .paced = options.paced,
                                  .max_draft = max_draft});
    CHECK(engine.ok(), "{}", Message(engine.status()));
    return *std::move(engine);
  };
  const auto engine = make(EngineOptions().max_draft);
  const int64_t vocab =
      RealModels::Get().Lease(file)->manifest().spec.hyperparameters.vocab_size;
  Stream(*engine, BenchPrompt(9, 64, vocab), 4).Wait();  // warm
  if (options.Wants("turn")) BenchTurn(*engine, vocab, options, file);
  if (options.Wants("stream")) {
    const auto plain = make(0);
    Stream(*plain, BenchPrompt(9, 64, vocab), 4).Wait();
    BenchStreams(*plain, vocab, options);
  }
  if (options.Wants("cancel")) BenchCancel(*engine, vocab, options);
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const auto value = std::string(arg.substr(arg.find('=') + 1));
    if (arg.starts_with("--prompt=")) {
      options.prompt = std::max<int64_t>(std::atoll(value.c_str()), 64);
    } else if (arg.starts_with("--runs=")) {
      options.runs = std::max(std::atoi(value.c_str()), 1);
    } else if (arg.starts_with("--threads=")) {
      options.threads = std::max(std::atoi(value.c_str()), 1);
    } else if (arg.starts_with("--chunk=")) {
      options.chunk = std::atoi(value.c_str());
    } else if (arg.starts_with("--cold-prompt=")) {
      options.cold_prompt = std::max<int64_t>(std::atoll(value.c_str()), 1);
    } else if (arg.starts_with("--directory=")) {
      options.directory = value;
    } else if (arg == "--fixed") {
      options.paced = false;
    } else if (arg.starts_with("--only=")) {
      options.only = value;
    } else if (arg.starts_with("--")) {
      fmt::print(stderr, "unknown option {}\n", arg);
      return 2;
    } else {
      options.files.emplace_back(arg);
    }
  }
  if (options.files.empty()) {
    options.files = {"SmolLM2-135M-Instruct.Q4_1.gguf"};
  }
  fmt::print("{}; {} threads, medians of {}\n", MachineLine(), options.threads,
             options.runs);
  for (const std::string& file : options.files) Bench(file, options);
  return 0;
}

}  // namespace
}  // namespace conclave::engine

int main(int argc, char** argv) { return conclave::engine::Main(argc, argv); }
