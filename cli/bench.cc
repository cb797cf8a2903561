// conclave bench engine: this machine's tokens per second, beside llama.cpp's
// and beside what the machine reads and multiplies, in one run.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/machine.h"
#include "base/names.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/line_process.h"
#include "cli/llama_cpp_peer.h"
#include "cli/speed_report.h"
#include "cli/terminal.h"
#include "expert_workers/engine/limits.h"
#include "expert_workers/engine/speed.h"
#include "expert_workers/weights/byte_source.h"
#include "expert_workers/weights/ram_tier.h"
#include "expert_workers/weights/weight_store.h"
#include "kernels/ops.h"

namespace conclave::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kInstall[] =
    "CMAKE_ARGS=-DGGML_NATIVE=ON pip install llama-cpp-python";

struct Options {
  std::vector<std::string> models;
  std::string data_dir;
  std::string python = "python3";
  int threads = PhysicalCores();
  int rounds = 3;
  engine::SpeedOptions speed;
  bool json = false;
};

// One to measure. `version` is in `store`.
struct Candidate {
  std::string name;
  weights::WeightStore* store = nullptr;
  std::string version;
  std::string gguf = {};     // its file, for llama.cpp; empty: not at hand
  std::string no_gguf = {};  // why not
};

fs::path FetchedModels() {
  if (const char* models = std::getenv("CONCLAVE_MODELS")) return models;
  const char* home = std::getenv("HOME");
  return fs::path(home == nullptr ? "/" : home) / ".cache/conclave/models";
}

std::vector<std::string> FetchedFiles() {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(FetchedModels(), error)) {
    if (entry.path().extension() == ".gguf") {
      files.push_back(entry.path().string());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool Generates(const weights::ModelEntry& entry) {
  return entry.architecture != "bert";
}

// Where models come from: the data directory's store, read beside a service
// that may own it, and a store of our own for files, removed at the end.
class Models {
 public:
  ~Models() {
    own_.reset();
    std::error_code error;
    if (!own_path_.empty()) fs::remove_all(own_path_, error);
  }
  Models() = default;
  Models(const Models&) = delete;
  Models& operator=(const Models&) = delete;

  absl::Status Open(const std::string& data_dir) {
    if (!fs::exists(data_dir + "/weights")) return absl::OkStatus();
    ASSIGN_OR_RETURN(stored_,
                     weights::WeightStore::Open(
                         {.path = data_dir + "/weights", .read_only = true}));
    return absl::OkStatus();
  }

  // The models named, or those of the data directory, or those fetched.
  absl::StatusOr<std::vector<Candidate>> Find(
      const std::vector<std::string>& names) {
    std::vector<Candidate> found;
    for (const std::string& name : names) {
      ASSIGN_OR_RETURN(found.emplace_back(), FindOne(name));
    }
    if (!names.empty()) return found;
    if (stored_ != nullptr) {
      for (const weights::ModelEntry& entry : stored_->List()) {
        if (Generates(entry)) found.push_back(Stored(entry));
      }
    }
    if (!found.empty()) return found;
    for (const std::string& file : FetchedFiles()) {
      ASSIGN_OR_RETURN(found.emplace_back(), Imported(file));
    }
    if (found.empty()) {
      return NotFound(
          "there is no model to measure: name a file with --model FILE.gguf, "
          "or run scripts/fetch_models");
    }
    return found;
  }

 private:
  absl::StatusOr<Candidate> FindOne(const std::string& name) {
    std::vector<std::string> known;
    if (stored_ != nullptr) {
      for (const weights::ModelEntry& entry : stored_->List()) {
        known.push_back(entry.name);
        if (entry.name != name && entry.version != name) continue;
        if (!Generates(entry)) {
          return InvalidArgument(
              "\"{}\" is an encoder, which generates no tokens", name);
        }
        return Stored(entry);
      }
    }
    if (fs::exists(name)) return Imported(name);
    const fs::path fetched = FetchedModels() / name;
    if (fs::exists(fetched)) return Imported(fetched.string());
    return NotFound("no model and no file \"{}\".{}", name,
                    DidYouMean(name, known));
  }

  Candidate Stored(const weights::ModelEntry& entry) {
    Candidate candidate{
        .name = entry.name, .store = stored_.get(), .version = entry.version};
    const fs::path file = FetchedModels() / entry.source;
    if (file.extension() == ".gguf" && HasDigest(file, entry.version)) {
      candidate.gguf = file.string();
    } else {
      candidate.no_gguf = fmt::format(
          "llama.cpp: the file {} was imported from is not at hand; measure it "
          "with --model FILE.gguf",
          entry.name);
    }
    return candidate;
  }

  bool HasDigest(const fs::path& file, const std::string& version) {
    auto source = weights::OpenFile(file.string());
    if (!source.ok()) return false;
    const auto manifest = stored_->Manifest(version);
    const auto digest = weights::SourceDigest({*std::move(source)});
    return manifest.ok() && digest.ok() &&
           (*manifest)->source_digest == *digest;
  }

  absl::StatusOr<Candidate> Imported(const std::string& file) {
    if (own_ == nullptr) {
      own_path_ = (fs::temp_directory_path() /
                   fmt::format("conclave-bench-{}", getpid()))
                      .string();
      ASSIGN_OR_RETURN(own_, weights::WeightStore::Open({.path = own_path_}));
    }
    const fs::path path = fs::canonical(file);
    const std::string name = fmt::format("model{}", ++imports_);
    absl::StatusOr<weights::ModelEntry> entry;
    {
      ProgressBar bar("import " + path.filename().string());
      entry = own_->Import(path.string(), name,
                           [&bar](int64_t done, int64_t total) {
                             bar.Update(done, total);
                             return absl::OkStatus();
                           });
    }
    if (!entry.ok()) return Annotate(entry.status(), file);
    if (!Generates(*entry)) {
      return InvalidArgument("{} is an encoder, which generates no tokens",
                             file);
    }
    Candidate candidate{.name = path.filename().string(),
                        .store = own_.get(),
                        .version = entry->version};
    if (path.extension() == ".gguf") {
      candidate.gguf = path.string();
    } else {
      candidate.no_gguf = "llama.cpp: it reads GGUF files only";
    }
    return candidate;
  }

  std::unique_ptr<weights::WeightStore> stored_;
  std::string own_path_;
  std::unique_ptr<weights::WeightStore> own_;
  int imports_ = 0;
};

// llama-cpp-python's version; NOT_FOUND says how to install it.
absl::StatusOr<std::string> PeerVersion(const std::string& python) {
  const auto process = LineProcess::Start(
      {python, "-c",
       "try:\n import llama_cpp, numpy\n print(llama_cpp.__version__)\n"
       "except Exception: pass"});
  if (process.ok()) {
    const auto version = (*process)->Ask("");
    if (version.ok() && !version->empty()) return *version;
  }
  return NotFound("llama.cpp: {} lacks it; {}", python, kInstall);
}

class EngineBench {
 public:
  explicit EngineBench(const Options& options)
      : options_(options), compute_(engine::Compute::Create(options.threads)) {
    report_.machine = MachineLine();
    report_.threads = options.threads;
    report_.prompt = options.speed.prompt;
    report_.generate = options.speed.generate;
    report_.streams = options.speed.streams;
    report_.stream_prompt = options.speed.stream_prompt;
    report_.rounds = options.rounds;
    report_.limits.isa = kernels::IsaName(kernels::BestIsa());
  }

  absl::Status Run() {
    Models models;
    RETURN_IF_ERROR(models.Open(options_.data_dir.empty() ? DefaultDataDir()
                                                          : options_.data_dir));
    ASSIGN_OR_RETURN(const std::vector<Candidate> candidates,
                     models.Find(options_.models));
    const auto version = PeerVersion(options_.python);
    if (version.ok()) report_.peer_version = *version;
    for (const Candidate& candidate : candidates) {
      const absl::Status measured = Measure(
          candidate, version.ok() ? candidate.no_gguf
                                  : std::string(Message(version.status())));
      if (!measured.ok()) return Annotate(measured, candidate.name);
    }
    return absl::OkStatus();
  }

  const SpeedReport& report() const { return report_; }

 private:
  // Before and after every model; the best: other work only takes away.
  void MeasureLimits() {
    SpeedLimits& limits = report_.limits;
    limits.read_bytes_per_second = std::max(
        limits.read_bytes_per_second, engine::ReadBandwidth(compute_.get()));
    limits.int8_ops_per_second =
        std::max(limits.int8_ops_per_second, engine::Int8Rate(compute_.get()));
  }

  absl::Status Measure(const Candidate& candidate, const std::string& no_peer) {
    MeasureLimits();
    ASSIGN_OR_RETURN(const auto manifest,
                     candidate.store->Manifest(candidate.version));
    const auto tier =
        weights::RamTier::Create(candidate.store, TotalMemoryBytes() / 2);
    ASSIGN_OR_RETURN(auto lease,
                     tier->Acquire(manifest, absl::InfiniteFuture()));
    ASSIGN_OR_RETURN(std::shared_ptr<const engine::Tokenizer> tokenizer,
                     engine::Tokenizer::Create(manifest->spec.tokenizer));
    ASSIGN_OR_RETURN(const auto meter, engine::SpeedMeter::Create(
                                           std::move(lease), tokenizer,
                                           compute_.get(), options_.speed));
    ModelSpeed result{.name = candidate.name,
                      .token_bytes = engine::TokenBytes(*manifest),
                      .token_ops = 2 * engine::TokenWeights(*manifest),
                      .no_peer = no_peer};
    std::unique_ptr<LineProcess> peer;
    if (no_peer.empty()) {
      ASSIGN_OR_RETURN(peer, StartPeer(candidate));
    }
    // In turns, so that other work meets both; the first round warms both.
    for (int round = 0; round <= options_.rounds; ++round) {
      Progress(candidate.name, round);
      ModelSpeed ignored;
      ModelSpeed& into = round == 0 ? ignored : result;
      ASSIGN_OR_RETURN(const engine::OneStreamSpeed one, meter->MeasureOne());
      into.prompt.ours.push_back(one.prompt_tokens_per_second);
      into.one.ours.push_back(one.generated_tokens_per_second);
      AskPeer(peer, "one", result,
              {{"prompt_tok_s", &into.prompt}, {"generate_tok_s", &into.one}});
      ASSIGN_OR_RETURN(const double streams, meter->MeasureStreams());
      into.streams.ours.push_back(streams);
      AskPeer(peer, "streams", result, {{"streams_tok_s", &into.streams}});
    }
    report_.models.push_back(std::move(result));
    MeasureLimits();
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<LineProcess>> StartPeer(
      const Candidate& candidate) {
    return LineProcess::Start(
        {options_.python, "-c", kLlamaCppPeer, "--model", candidate.gguf,
         "--threads", std::to_string(options_.threads), "--prompt",
         std::to_string(options_.speed.prompt), "--generate",
         std::to_string(options_.speed.generate), "--stream-prompt",
         std::to_string(options_.speed.stream_prompt), "--streams",
         std::to_string(options_.speed.streams)});
  }

  // Once it fails the rest is measured without it.
  void AskPeer(std::unique_ptr<LineProcess>& peer, const char* what,
               ModelSpeed& result,
               const std::vector<std::pair<const char*, Speeds*>>& wanted) {
    if (peer == nullptr) return;
    const auto answer = peer->Ask(what);
    const auto json =
        nlohmann::json::parse(answer.ok() ? *answer : "", nullptr, false);
    for (const auto& [key, into] : wanted) {
      if (json.is_object() && json.contains(key) && json[key].is_number()) {
        into->peer.push_back(json[key].get<double>());
        continue;
      }
      result.no_peer = "llama.cpp: it stopped while measuring this model";
      result.prompt.peer.clear();
      result.one.peer.clear();
      result.streams.peer.clear();
      peer.reset();
      return;
    }
  }

  void Progress(const std::string& name, int round) const {
    if (options_.json || isatty(STDERR_FILENO) == 0) return;
    std::fprintf(
        stderr, "%s: %s\n", name.c_str(),
        round == 0
            ? "warming up"
            : fmt::format("round {} of {}", round, options_.rounds).c_str());
  }

  const Options& options_;
  const std::unique_ptr<engine::Compute> compute_;
  SpeedReport report_;
};

absl::StatusOr<int> RunEngine(const Options& options) {
  EngineBench bench(options);
  RETURN_IF_ERROR(bench.Run());
  std::printf("%s", options.json ? SpeedJson(bench.report()).c_str()
                                 : SpeedText(bench.report()).c_str());
  return 0;
}

}  // namespace

void AddBenchCommand(CLI::App& app, Action& chosen) {
  CLI::App* bench = app.add_subcommand("bench", "Measure this machine");
  bench->require_subcommand(1);
  auto options = std::make_shared<Options>();
  CLI::App* command = bench->add_subcommand(
      "engine",
      "Tokens per second of models, for one stream and for several, beside "
      "llama.cpp's (where llama-cpp-python is installed) and beside what this "
      "machine reads and multiplies. Stop other work first");
  command->add_option("--model", options->models,
                      "A model's name or a file; again for more (those of the "
                      "data directory, or those that were fetched)");
  command->add_option("--threads", options->threads, "Threads")
      ->check(CLI::Range(1, 256));
  command->add_option("--rounds", options->rounds, "Rounds after the first")
      ->check(CLI::Range(1, 1000));
  command->add_option("--prompt", options->speed.prompt, "Tokens of the prompt")
      ->check(CLI::Range(1, 100000));
  command
      ->add_option("--generate", options->speed.generate,
                   "Tokens generated behind it")
      ->check(CLI::Range(4, 100000));
  command->add_option("--streams", options->speed.streams, "Streams together")
      ->check(CLI::Range(1, 64));
  command
      ->add_option("--stream-prompt", options->speed.stream_prompt,
                   "Tokens of each stream's prompt")
      ->check(CLI::Range(1, 100000));
  command->add_option("--python", options->python,
                      "Which Python has llama-cpp-python");
  command->add_option("--data-dir", options->data_dir,
                      "Where models are kept (" + DefaultDataDir() + ")");
  command->add_flag("--json", options->json, "Print JSON");
  command->final_callback(
      [options, &chosen] { chosen = [=] { return RunEngine(*options); }; });
}

}  // namespace conclave::cli
