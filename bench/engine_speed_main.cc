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
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "expert_workers/engine/limits.h"
#include "expert_workers/engine/speed.h"
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
  engine::SpeedOptions speed;
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
    ASSIGN_OR_RETURN(meter_,
                     engine::SpeedMeter::Create(std::move(lease), tokenizer_,
                                                compute_.get(), options.speed));
    return absl::OkStatus();
  }

  absl::StatusOr<nlohmann::json> MeasureOne() {
    ASSIGN_OR_RETURN(const engine::OneStreamSpeed speed, meter_->MeasureOne());
    return nlohmann::json{
        {"prompt_tok_s", speed.prompt_tokens_per_second},
        {"generate_tok_s", speed.generated_tokens_per_second}};
  }

  absl::StatusOr<nlohmann::json> MeasureStreams() {
    ASSIGN_OR_RETURN(const double speed, meter_->MeasureStreams());
    return nlohmann::json{{"streams_tok_s", speed}};
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
  std::unique_ptr<weights::WeightStore> store_;
  std::shared_ptr<const weights::ModelManifest> manifest_;
  std::unique_ptr<weights::RamTier> tier_;
  std::unique_ptr<engine::Compute> compute_;
  std::shared_ptr<const engine::Tokenizer> tokenizer_;
  std::unique_ptr<engine::SpeedMeter> meter_;
};

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Prompt and generation speed of one model");
  app.add_option("--model", options.model, "GGUF file")->required();
  app.add_option("--store", options.store, "Where to import it");
  app.add_option("--threads", options.threads, "Threads");
  app.add_option("--prompt", options.speed.prompt, "Prompt tokens");
  app.add_option("--generate", options.speed.generate, "Generated tokens");
  app.add_option("--streams", options.speed.streams, "Requests together");
  app.add_option("--stream-prompt", options.speed.stream_prompt,
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
