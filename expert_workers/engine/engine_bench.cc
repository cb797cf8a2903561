// How fast a real model runs through the whole engine: a prompt of 512 tokens,
// generation behind it, alone and eight together.
//
//   engine_bench [FILE...] [--threads=1,2] [--isa=avx2] [--generate=64]
//                [--chunk=256]
//
// FILE is a name in the models' folder (real_model.h). Medians of --runs
// (3). Beside tokens per second: the weights' bytes read per second, and the
// read bandwidth of this machine measured in the same run.
#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/machine.h"
#include "expert_workers/engine/bench_prompts.h"
#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/limits.h"
#include "expert_workers/engine/real_model.h"
#include "expert_workers/engine/run_requests.h"

namespace conclave::engine {
namespace {

constexpr int64_t kPrompt = 512;

struct Options {
  std::vector<std::string> files;
  std::vector<int> threads = {1, 2};
  std::string isa;
  int64_t generate = 64;
  int32_t chunk = 256;  // prompt tokens a step
  int runs = 3;
};

// When a request was submitted, and when each of its tokens came.
struct Times {
  double submitted = 0;
  std::vector<double> at;
};

// `count` requests together; returns when all have ended.
std::vector<Times> RunTogether(Engine& engine, int count, int64_t prompt,
                               int64_t generate, int32_t vocab) {
  std::vector<Times> times(static_cast<size_t>(count));
  std::vector<std::unique_ptr<Collector>> collectors;
  for (int i = 0; i < count; ++i) {
    EngineRequest request;
    request.request_id = fmt::format("bench {}", i);
    request.prompt = BenchPrompt(static_cast<uint32_t>(i), prompt, vocab);
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = generate;
    collectors.push_back(std::make_unique<Collector>(1));
    Times& mine = times[static_cast<size_t>(i)];
    mine.submitted = Seconds();
    EventSink sink = collectors.back()->Sink();
    const auto ticket =
        engine.Submit(std::move(request), [&mine, sink](const EngineEvent& e) {
          mine.at.insert(mine.at.end(), e.tokens.size(), Seconds());
          sink(e);
        });
    CHECK(ticket.ok(), "{}", Message(ticket.status()));
  }
  for (auto& collector : collectors) collector->Wait();
  return times;
}

void Bench(const std::string& file, int threads, const Options& options) {
  auto lease = RealModels::Get().Lease(file);
  if (lease == nullptr) {
    fmt::print("{}: not here\n", file);
    return;
  }
  const int64_t bytes = TokenBytes(lease->manifest());
  const auto vocab =
      static_cast<int32_t>(lease->manifest().spec.hyperparameters.vocab_size);
  const auto tokenizer = RealModels::MakeTokenizer(*lease);
  const auto compute = Compute::Create(threads);
  auto engine = Engine::Create(std::move(lease), tokenizer, compute.get(),
                               {.max_context = 4096,
                                .prefill_chunk = options.chunk,
                                .prefix_cache = false,  // the same prompts
                                .isa = options.isa});
  CHECK(engine.ok(), "{}", Message(engine.status()));
  RunTogether(**engine, 1, 64, 4, vocab);  // warm
  std::vector<double> prompt, generate, eight;
  for (int run = 0; run < options.runs; ++run) {
    const Times one =
        RunTogether(**engine, 1, kPrompt, options.generate, vocab)[0];
    prompt.push_back(kPrompt / (one.at.front() - one.submitted));
    generate.push_back(static_cast<double>(one.at.size() - 1) /
                       (one.at.back() - one.at.front()));
    const std::vector<Times> many =
        RunTogether(**engine, 8, 32, options.generate, vocab);
    // While all eight generate.
    double begin = 0, end = many[0].at.back();
    for (const Times& t : many) {
      begin = std::max(begin, t.at.front());
      end = std::min(end, t.at.back());
    }
    int64_t tokens = 0;
    for (const Times& t : many) {
      tokens += std::count_if(t.at.begin(), t.at.end(), [&](double at) {
        return at > begin && at <= end;
      });
    }
    eight.push_back(static_cast<double>(tokens) / (end - begin));
  }
  const double bandwidth = ReadBandwidth(compute.get());
  const double read = Median(generate) * static_cast<double>(bytes);
  fmt::print(
      "{:<48} {} threads  prompt 512: {:6.1f} tok/s  generate at 512: {:5.1f} "
      "tok/s = {:.1f} GB/s of {:.1f} read  eight: {:6.1f} tok/s\n",
      file, threads, Median(prompt), Median(generate), read / 1e9,
      bandwidth / 1e9, Median(eight));
  std::fflush(stdout);
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const auto value = std::string(arg.substr(arg.find('=') + 1));
    if (arg.starts_with("--threads=")) {
      options.threads.clear();
      for (const char c : value) {
        if (c >= '1' && c <= '9') options.threads.push_back(c - '0');
      }
    } else if (arg.starts_with("--isa=")) {
      options.isa = value;
    } else if (arg.starts_with("--generate=")) {
      options.generate = std::atoll(value.c_str());
    } else if (arg.starts_with("--chunk=")) {
      options.chunk = std::atoi(value.c_str());
    } else if (arg.starts_with("--runs=")) {
      options.runs = std::max(std::atoi(value.c_str()), 1);
    } else if (arg.starts_with("--")) {
      fmt::print(stderr, "unknown option {}\n", arg);
      return 2;
    } else {
      options.files.emplace_back(arg);
    }
  }
  if (options.files.empty()) {
    options.files = {"SmolLM2-135M-Instruct.Q4_1.gguf",
                     "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf"};
  }
  fmt::print("{}\n", MachineLine());
  for (const std::string& file : options.files) {
    for (const int threads : options.threads) Bench(file, threads, options);
  }
  return 0;
}

}  // namespace
}  // namespace conclave::engine

int main(int argc, char** argv) { return conclave::engine::Main(argc, argv); }
