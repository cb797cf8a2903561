// Minutes of random requests against a worker whose memory holds one of its
// models: conversations that begin alike, several tenants, aborts, deadlines,
// model switches. Looks for answers whose bits differ from the first time,
// slots that stay taken, and memory that grows.
//
//   conclave_bench_soak --minutes 30 MODEL.gguf MODEL.gguf...
//
// Prints a line every half minute and a verdict; exits with 1 when an answer
// differed, something is stuck or memory grew.
#include <absl/time/clock.h>
#include <fmt/core.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <bit>
#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/hash.h"
#include "base/machine.h"
#include "expert_workers/model_host.h"

namespace conclave {
namespace {

struct Options {
  std::vector<std::string> models;
  std::string store = "conclave-soak-store";
  double minutes = 30;
  int clients = 12;
  int threads = 2;
  uint32_t seed = 1;
};

constexpr int kSpecs = 40;
// Answers that are not there by then are stuck: no request here takes as long,
// switches included.
constexpr absl::Duration kStuck = absl::Minutes(4);

// Model switches move the resident size by some 50 MB either way, and caches
// still fill in the first minutes: over less than this the slope says nothing
// (five minutes of SmolLM2 and Coder-0.5B gained 59 MB by it, and ended where
// they began).
constexpr double kSlopeMinutes = 12;
// What may be gained by the slope while it is measured: three times its error
// over twelve minutes. 10,000 requests that lose 7 kB each exceed it.
constexpr double kGrowthMegabytes = 64;

// The least squares slope of y over x.
double Slope(const std::vector<double>& x, const std::vector<double>& y) {
  const auto n = static_cast<double>(x.size());
  double mean_x = 0, mean_y = 0, xy = 0, xx = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    mean_x += x[i] / n;
    mean_y += y[i] / n;
  }
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean_x) * (y[i] - mean_y);
    xx += (x[i] - mean_x) * (x[i] - mean_x);
  }
  return xx > 0 ? xy / xx : 0;
}

// A request that is asked again and again. Three beginnings are shared, and
// cut anywhere, so that the prefix cache has work.
v1::WorkerGenerateRequest Spec(uint32_t seed,
                               const std::vector<std::string>& models) {
  std::mt19937 random(seed);
  const auto below = [&](uint32_t n) {
    return static_cast<uint32_t>(random() % n);
  };
  static constexpr const char* kTexts[] = {
      "You are a patient teacher who explains things in plain words. ",
      "def merge(left, right):\n    result = []\n    # both are sorted\n",
      "The history of the harbour begins with a small fishing village. "};
  std::string text;
  const char* begin = kTexts[below(3)];
  for (uint32_t i = below(12); i > 0; --i) text += begin;
  for (uint32_t i = 1 + below(20); i > 0; --i) {
    text += fmt::format("word{} ", below(1000));
  }
  v1::WorkerGenerateRequest request;
  request.set_request_id(fmt::format("soak-{}", seed));
  request.set_model(models[below(static_cast<uint32_t>(models.size()))]);
  request.set_text(text);
  v1::SamplingParams* sampling = request.mutable_sampling();
  sampling->set_max_tokens(1 + below(40));
  sampling->set_temperature(below(2) == 0 ? 0.0f : 0.8f);
  sampling->set_logprobs(2);
  sampling->set_ignore_eos(below(2) == 0);
  if (below(6) == 0) sampling->set_n(3);
  if (below(8) == 0) sampling->set_echo(true);
  return request;
}

// One stream and a digest of the bits that it said.
class Ask {
 public:
  Ask(workers::ModelHost& host, const v1::WorkerGenerateRequest& request,
      absl::Time deadline)
      : call_(host.Generate(
            request, deadline,
            {.on_event = [this](const v1::GenerateEvent& e) { Add(e); },
             .on_done = [this](absl::Status status) { End(status); }})) {}

  void Cancel() { call_->Cancel(); }
  // False: not ended by then.
  bool Wait(absl::Duration patience) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, absl::ToChronoNanoseconds(patience),
                             [this] { return done_; });
  }
  const absl::Status& status() const { return status_; }
  uint64_t digest() {
    std::string all;
    for (const auto& [index, said] : said_) {
      all += said.text + "|" + said.tokens + "|";
    }
    return Xxh3_64(all);
  }

 private:
  void Add(const v1::GenerateEvent& event) {
    if (event.has_started()) {
      for (const auto& token : event.started().prompt_logprobs()) {
        Put(-1, token);
      }
    }
    if (!event.has_delta()) return;
    said_[event.delta().index()].text += event.delta().text();
    for (const auto& token : event.delta().logprobs()) {
      Put(event.delta().index(), token);
    }
  }
  void Put(int index, const v1::TokenLogprob& token) {
    std::string& said = said_[index].tokens;
    said += fmt::format("<{}:{}", token.token(),
                        std::bit_cast<uint32_t>(token.logprob()));
    for (const auto& top : token.top()) {
      said += fmt::format(",{}:{}", top.token(),
                          std::bit_cast<uint32_t>(top.logprob()));
    }
    said += ">";
  }
  void End(const absl::Status& status) {
    std::lock_guard lock(mutex_);
    status_ = status;
    done_ = true;
    changed_.notify_all();
  }

  struct Said {
    std::string text;
    std::string tokens;  // with the bits of their log-probabilities
  };
  std::map<int, Said> said_;  // by answer; -1: the prompt
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  absl::Status status_;
  std::shared_ptr<workers::HostCall> call_;
};

class Soak {
 public:
  absl::Status Open(const Options& options) {
    options_ = options;
    std::filesystem::create_directories(options.store);
    ASSIGN_OR_RETURN(store_, weights::WeightStore::Open({options.store}));
    int64_t largest = 0;
    for (size_t i = 0; i < options.models.size(); ++i) {
      const std::string name = fmt::format("model{}", i);
      ASSIGN_OR_RETURN(const auto entry,
                       store_->Import(options.models[i], name, {}));
      names_.push_back(name);
      largest = std::max(largest, entry.total_bytes);
    }
    // One at a time, with little to spare; small caches, so that sequences
    // give way and pages are evicted.
    workers::ModelHostOptions host;
    host.ram_budget_bytes = largest + largest / 20;
    host.kv_budget_bytes = int64_t{48} << 20;
    host.threads = options.threads;
    host.max_batch = 6;
    host.max_waiting = 8;
    host_ = workers::ModelHost::Create(store_.get(), host);
    for (int i = 0; i < kSpecs; ++i) {
      specs_.push_back(
          Spec(options.seed * 1000 + static_cast<uint32_t>(i), names_));
    }
    return absl::OkStatus();
  }

  // The process's exit code.
  int Run() {
    start_ = absl::Now();
    std::vector<std::thread> clients;
    for (int i = 0; i < options_.clients; ++i) {
      clients.emplace_back(
          [this, i] { Client(options_.seed + static_cast<uint32_t>(i)); });
    }
    std::vector<double> minutes, megabytes;
    absl::Time next_line = start_ + absl::Seconds(30);
    while (!Over()) {
      absl::SleepFor(absl::Seconds(1));
      // The first fifth fills caches and pools.
      if (Minutes() > options_.minutes / 5) {
        minutes.push_back(Minutes());
        megabytes.push_back(static_cast<double>(ProcessResidentBytes()) / 1e6);
      }
      if (absl::Now() >= next_line) {
        next_line += absl::Seconds(30);
        PrintLine();
      }
    }
    for (std::thread& client : clients) client.join();
    PrintLine();
    CheckIdle();
    const double slope = Slope(minutes, megabytes);
    const double seen = minutes.empty() ? 0 : minutes.back() - minutes.front();
    const bool grows = seen >= kSlopeMinutes && slope * seen > kGrowthMegabytes;
    fmt::print("memory: {:.0f} MB at the end, {:+.2f} MB a minute, {}\n",
               megabytes.empty() ? 0.0 : megabytes.back(), slope,
               seen < kSlopeMinutes ? "too short a run to judge (15 minutes do)"
               : grows              ? "IT GROWS"
                                    : "it does not grow");
    fmt::print("{} answers of {} differed, {} things are stuck\n",
               differing_.load(), answered_.load(), stuck_.load());
    if (answered_ == 0) fmt::print("nothing was answered\n");
    const bool good = differing_ == 0 && stuck_ == 0 && !grows && answered_ > 0;
    fmt::print("{}\n", good ? "PASSED" : "FAILED");
    return good ? 0 : 1;
  }

 private:
  double Minutes() const { return absl::ToDoubleMinutes(absl::Now() - start_); }
  bool Over() const { return Minutes() >= options_.minutes; }

  void Client(uint32_t seed) {
    std::mt19937 random(seed * 7919 + 13);
    const auto below = [&](uint32_t n) {
      return static_cast<uint32_t>(random() % n);
    };
    while (!Over()) {
      const size_t which = below(kSpecs);
      v1::WorkerGenerateRequest request = specs_[which];
      request.set_tenant(fmt::format("tenant {}", below(3)));
      const auto kind = below(20);
      const absl::Time deadline =
          kind == 0 ? absl::Now() + absl::Milliseconds(below(3000))
                    : absl::InfiniteFuture();
      Ask ask(*host_, request, deadline);
      if (kind >= 1 && kind <= 5) {
        absl::SleepFor(absl::Milliseconds(below(1500)));
        ask.Cancel();
        ++aborted_;
      }
      if (kind == 6 && below(10) == 0) Unload(request.model());
      if (!ask.Wait(kStuck)) {
        ++stuck_;
        fmt::print("stuck: {}\n", request.ShortDebugString());
        std::fflush(stdout);
        std::abort();  // its callbacks would outlive it
      }
      Judge(which, ask);
      if (ask.status().code() == absl::StatusCode::kResourceExhausted) {
        absl::SleepFor(absl::Milliseconds(200 + below(300)));
      }
    }
  }

  void Judge(size_t which, Ask& ask) {
    ++requests_;
    switch (ask.status().code()) {
      case absl::StatusCode::kOk:
        break;
      case absl::StatusCode::kCancelled:
      case absl::StatusCode::kDeadlineExceeded:
      case absl::StatusCode::kResourceExhausted:
        return;
      default:
        ++stuck_;
        fmt::print("failed: {}\n", std::string(Message(ask.status())));
        return;
    }
    ++answered_;
    const uint64_t digest = ask.digest();
    std::lock_guard lock(mutex_);
    const auto [known, is_new] = digests_.emplace(which, digest);
    if (is_new || known->second == digest) return;
    ++differing_;
    fmt::print("request {} said something else\n", which);
  }

  void Unload(const std::string& model) {
    v1::UnloadRequest request;
    request.set_model(model);
    std::lock_guard lock(mutex_);
    unloads_.push_back(host_->Unload(request, absl::InfiniteFuture(),
                                     [this](absl::Status) { ++unloaded_; }));
  }

  // Nothing runs any more, so nothing may be taken.
  void CheckIdle() {
    const absl::Time until = absl::Now() + absl::Seconds(10);
    int64_t taken = 0;
    do {
      taken = 0;
      const v1::WorkerStats stats = host_->Stats();
      for (const auto& model : stats.models()) {
        taken += model.running() + model.waiting() + model.kv_pages_used();
      }
      absl::SleepFor(absl::Milliseconds(20));
    } while (taken > 0 && absl::Now() < until);
    if (taken > 0) {
      ++stuck_;
      fmt::print("slots, requests or pages still taken: {}\n", taken);
    }
  }

  void PrintLine() const {
    int64_t hits = 0, saved = 0, preempted = 0, evicted = 0;
    const v1::WorkerStats stats = host_->Stats();
    for (const auto& model : stats.models()) {
      hits += model.prefix_cache().hits();
      saved += model.prefix_cache().tokens_saved();
      evicted += model.prefix_cache().evicted_pages();
      preempted += model.preemptions();
    }
    fmt::print(
        "{:5.1f} min: {} requests, {} answered, {} aborted, {} unloads; "
        "{} cache hits saved {} tokens, {} pages evicted, {} "
        "preemptions; {:.0f} MB\n",
        Minutes(), requests_.load(), answered_.load(), aborted_.load(),
        unloaded_.load(), hits, saved, evicted, preempted,
        static_cast<double>(ProcessResidentBytes()) / 1e6);
    std::fflush(stdout);
  }

  Options options_;
  std::unique_ptr<weights::WeightStore> store_;
  std::vector<std::string> names_;
  std::vector<v1::WorkerGenerateRequest> specs_;
  absl::Time start_;
  std::atomic<int64_t> requests_{0}, answered_{0}, aborted_{0}, unloaded_{0};
  std::atomic<int64_t> differing_{0}, stuck_{0};
  std::mutex mutex_;
  std::map<size_t, uint64_t> digests_;
  std::vector<std::shared_ptr<workers::HostCall>> unloads_;
  std::unique_ptr<workers::ModelHost> host_;  // goes first
};

int Main(int argc, char** argv) {
  Options options;
  CLI::App app("Random requests, aborts and model switches, for minutes");
  app.add_option("models", options.models, "GGUF files, two or more")
      ->required();
  app.add_option("--minutes", options.minutes, "How long");
  app.add_option("--store", options.store, "Where to import the models");
  app.add_option("--clients", options.clients, "Requests at a time");
  app.add_option("--threads", options.threads, "Threads that compute");
  app.add_option("--seed", options.seed, "Which requests, in which order");
  CLI11_PARSE(app, argc, argv);
  fmt::print("{}; {:g} minutes, {} clients, {} threads, seed {}\n",
             MachineLine(), options.minutes, options.clients, options.threads,
             options.seed);
  std::fflush(stdout);
  Soak soak;
  if (const absl::Status opened = soak.Open(options); !opened.ok()) {
    fmt::print(stderr, "{}\n", std::string(Message(opened)));
    return 1;
  }
  return soak.Run();
}

}  // namespace
}  // namespace conclave

int main(int argc, char** argv) { return conclave::Main(argc, argv); }
