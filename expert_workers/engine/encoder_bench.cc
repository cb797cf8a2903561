// How long the sentence encoder takes for one text, beside what the processor
// could do.
//
//   encoder_bench [MODEL] [--threads=1,2] [--tokens=16,32,128] [--isa=avx2]
//                 [--runs=200]
//
// MODEL is a folder in the models' folder (real_model.h), all-MiniLM-L6-v2 by
// default. Prints p50 and p99 of a whole Embed, tokenizer included, the
// operations of its matrix products and attention per second at p50, and that
// as a share of the int8 and fp32 peaks, taken in the same run.
#include <fmt/core.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/machine.h"
#include "expert_workers/engine/encoder.h"
#include "expert_workers/engine/real_model.h"
#include "kernels/peaks.h"

namespace conclave::engine {
namespace {

struct Options {
  std::string model = "all-MiniLM-L6-v2";
  std::vector<int> threads = {1, 2};
  std::vector<int> tokens = {16, 32, 128};
  kernels::Isa isa = kernels::BestIsa();
  int runs = 200;
};

double Milliseconds() {
  return static_cast<double>(Clock::Real().MonotonicNanos()) * 1e-6;
}

// Processor time of all threads: what other work on the machine does not add
// to. Workers that wait for their next piece spin, and count too.
double ProcessorMilliseconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 +
         static_cast<double>(now.tv_nsec) * 1e-6;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// The best of 20 tries of one core, times `threads`: other work on the machine
// can only make a try slower.
double PeakGops(double (*run)(kernels::Isa), kernels::Isa isa, int threads) {
  double best = 0;
  for (int i = 0; i < 20; ++i) {
    const double start = Milliseconds();
    const double operations = run(isa);
    best = std::max(best, operations * 1e-6 / (Milliseconds() - start));
  }
  return best * threads;
}

// Two for each multiply and add of the matrix products and of attention.
double OperationsOf(const weights::ModelHyperparameters& model,
                    int64_t num_tokens) {
  const auto layers = static_cast<double>(model.num_layers);
  const auto d = static_cast<double>(model.hidden_size);
  const auto f = static_cast<double>(model.intermediate_size);
  const auto m = static_cast<double>(num_tokens);
  return layers * (2 * m * (4 * d * d + 2 * d * f) + 4 * m * m * d);
}

// Words that are one token each, between [CLS] and [SEP].
std::string TextOf(int num_tokens) {
  constexpr const char* kWords[] = {"the", "weather", "is", "fine", "today"};
  std::string text;
  for (int i = 0; i < num_tokens - 2; ++i) {
    text += kWords[i % 5];
    text += ' ';
  }
  return text;
}

void Bench(const Options& options, int threads) {
  auto lease = RealModels::Get().Lease(options.model);
  if (lease == nullptr) {
    fmt::print("SKIPPED: {} is not here; see scripts/fetch_models\n",
               options.model);
    return;
  }
  const weights::ModelHyperparameters model =
      lease->manifest().spec.hyperparameters;
  const auto tokenizer = RealModels::MakeTokenizer(*lease);
  const auto compute = Compute::Create(threads);
  const double start = Milliseconds();
  auto encoder =
      Encoder::Create(std::move(lease), tokenizer, compute.get(),
                      {.isa = std::string(kernels::IsaName(options.isa))});
  CHECK(encoder.ok(), "{}", Message(encoder.status()));
  const double made = Milliseconds() - start;
  fmt::print("{}, {}, {} threads; made from the lease in {:.0f} ms\n",
             options.model, kernels::IsaName(options.isa), threads, made);
  for (const int num_tokens : options.tokens) {
    const std::string text = TextOf(num_tokens);
    std::vector<double> taken, processor;
    for (int run = 0; run < options.runs + 5; ++run) {
      const double processor_begin = ProcessorMilliseconds();
      const double begin = Milliseconds();
      const auto embedding = (*encoder)->Embed(text);
      const double end = Milliseconds();
      CHECK(embedding.ok(), "{}", Message(embedding.status()));
      CHECK(embedding->token_count == num_tokens, "{} tokens",
            embedding->token_count);
      if (run < 5) continue;
      taken.push_back(end - begin);
      processor.push_back(ProcessorMilliseconds() - processor_begin);
    }
    std::sort(taken.begin(), taken.end());
    const double p50 = taken[taken.size() / 2];
    const double rate = OperationsOf(model, num_tokens) * 1e-6 / p50;
    fmt::print(
        "  {:>3} tokens: p50 {:6.2f} ms, p99 {:6.2f}, least {:6.2f}, processor "
        "time p50 {:6.2f}; {:.0f} GOP/s",
        num_tokens, p50, taken[taken.size() * 99 / 100], taken[0],
        Median(processor), rate);
    if (options.isa != kernels::Isa::kScalar) {
      const double int8 = PeakGops(kernels::RunInt8Peak, options.isa, threads);
      const double fp32 = PeakGops(kernels::RunFp32Peak, options.isa, threads);
      fmt::print(
          " = {:.2f} of the int8 peak ({:.0f}), {:.2f} of fp32's "
          "({:.0f})",
          rate / int8, int8, rate / fp32, fp32);
    }
    fmt::print("\n");
    std::fflush(stdout);
  }
}

std::vector<int> Numbers(std::string_view list) {
  std::vector<int> numbers;
  while (!list.empty()) {
    numbers.push_back(std::atoi(std::string(list).c_str()));
    const size_t comma = list.find(',');
    list.remove_prefix(comma == list.npos ? list.size() : comma + 1);
  }
  return numbers;
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const auto value = std::string(arg.substr(arg.find('=') + 1));
    if (arg.starts_with("--threads=")) {
      options.threads = Numbers(value);
    } else if (arg.starts_with("--tokens=")) {
      options.tokens = Numbers(value);
    } else if (arg.starts_with("--runs=")) {
      options.runs = std::max(std::atoi(value.c_str()), 1);
    } else if (arg.starts_with("--isa=")) {
      bool known = false;
      for (const kernels::Isa isa : kernels::SupportedIsas()) {
        if (kernels::IsaName(isa) != value) continue;
        options.isa = isa;
        known = true;
      }
      if (!known) {
        fmt::print(stderr, "this processor has no {}\n", value);
        return 2;
      }
    } else if (arg.starts_with("--")) {
      fmt::print(stderr, "unknown option {}\n", arg);
      return 2;
    } else {
      options.model = arg;
    }
  }
  fmt::print("{}\n", MachineLine());
  for (const int threads : options.threads) Bench(options, threads);
  return 0;
}

}  // namespace
}  // namespace conclave::engine

int main(int argc, char** argv) { return conclave::engine::Main(argc, argv); }
