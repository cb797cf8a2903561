// Test help: real models imported once, workers with clients, streams whose
// outcome can be waited for.
#ifndef CONCLAVE_EXPERT_WORKERS_WORKER_FIXTURE_H_
#define CONCLAVE_EXPERT_WORKERS_WORKER_FIXTURE_H_

#include <absl/time/clock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/rpc/server.h"
#include "expert_workers/client.h"
#include "expert_workers/model_host.h"
#include "expert_workers/service.h"

namespace conclave::workers {

namespace fs = std::filesystem;

inline constexpr char kChat[] = "smollm2";
inline constexpr char kCoder[] = "coder";
inline constexpr char kEncoder[] = "minilm";

inline fs::path ModelFolder() {
  if (const char* folder = std::getenv("CONCLAVE_MODELS")) return folder;
  const char* home = std::getenv("HOME");
  return fs::path(home != nullptr ? home : "/") / ".cache/conclave/models";
}

inline absl::Time Soon() { return absl::Now() + absl::Seconds(120); }

// What came of one stream.
struct Outcome {
  absl::Status status;
  std::string text;  // of answer 0
  std::vector<int32_t> tokens;
  std::vector<std::string> kinds;  // "started", "delta", ...
  v1::GenerateEvent::Started started;
  v1::GenerateEvent::Usage usage;
  std::string reason;
  absl::Duration took;
};

// A stream whose outcome can be waited for.
class Running {
 public:
  Running(WorkerClient& client, const v1::WorkerGenerateRequest& request,
          absl::Time deadline = Soon())
      : start_(absl::Now()),
        call_(client.Generate(
            request, deadline,
            {.on_event = [this](const v1::GenerateEvent& e) { Add(e); },
             .on_done = [this](absl::Status status) { End(status); }})) {}

  Outcome Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
    return outcome_;
  }
  void WaitForText() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_ || !outcome_.tokens.empty(); });
  }
  bool done() {
    std::lock_guard lock(mutex_);
    return done_;
  }
  void Cancel() { call_->Cancel(); }

 private:
  void Add(const v1::GenerateEvent& event) {
    std::lock_guard lock(mutex_);
    switch (event.event_case()) {
      case v1::GenerateEvent::kStarted:
        outcome_.kinds.push_back("started");
        outcome_.started = event.started();
        break;
      case v1::GenerateEvent::kDelta:
        if (event.delta().index() != 0) break;
        outcome_.kinds.push_back("delta");
        outcome_.text += event.delta().text();
        for (const int32_t token : event.delta().tokens()) {
          outcome_.tokens.push_back(token);
        }
        break;
      case v1::GenerateEvent::kFinished:
        outcome_.kinds.push_back("finished");
        outcome_.reason = event.finished().reason();
        break;
      case v1::GenerateEvent::kUsage:
        outcome_.kinds.push_back("usage");
        outcome_.usage = event.usage();
        break;
      case v1::GenerateEvent::EVENT_NOT_SET:
        outcome_.kinds.push_back("nothing");
        break;
    }
    changed_.notify_all();
  }
  void End(const absl::Status& status) {
    std::lock_guard lock(mutex_);
    outcome_.status = status;
    outcome_.took = absl::Now() - start_;
    done_ = true;
    changed_.notify_all();
  }

  const absl::Time start_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  Outcome outcome_;
  std::unique_ptr<StreamCall> call_;
};

inline v1::WorkerGenerateRequest Ask(const std::string& model,
                                     const std::string& text,
                                     int64_t max_tokens) {
  v1::WorkerGenerateRequest request;
  request.set_request_id("test-" + text.substr(0, 20));
  request.set_model(model);
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(text);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

inline v1::WorkerGenerateRequest Complete(const std::string& model,
                                          const std::string& text,
                                          int64_t max_tokens) {
  v1::WorkerGenerateRequest request = Ask(model, text, max_tokens);
  request.set_text(text);
  return request;
}

// Imports the three models once for all tests.
class Models {
 public:
  static const Models* Get() {
    static Models models;
    return models.store_ != nullptr ? &models : nullptr;
  }
  weights::WeightStore* store() const { return store_.get(); }
  const fs::path& path() const { return path_; }
  int64_t Bytes(const std::string& name) const {
    return store_->Manifest(name).value()->total_bytes;
  }

 private:
  Models() {
    const fs::path from = ModelFolder();
    const std::pair<const char*, fs::path> wanted[] = {
        {kChat, from / "SmolLM2-135M-Instruct.Q4_1.gguf"},
        {kCoder, from / "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf"},
        {kEncoder, from / "all-MiniLM-L6-v2"}};
    for (const auto& [name, path] : wanted) {
      if (!fs::exists(path)) {
        fprintf(stderr, "no %s: scripts/fetch_models\n", path.c_str());
        return;
      }
    }
    std::string pattern =
        (fs::temp_directory_path() / "worker-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
    auto store =
        weights::WeightStore::Open({.path = (path_ / "store").string()});
    EXPECT_TRUE(store.ok()) << store.status();
    if (!store.ok()) return;
    for (const auto& [name, path] : wanted) {
      const auto entry = (*store)->Import(path.string(), name, {});
      EXPECT_TRUE(entry.ok()) << entry.status();
      if (!entry.ok()) return;
    }
    store_ = std::move(store).value();
  }
  ~Models() {
    store_.reset();
    if (!path_.empty()) fs::remove_all(path_);
  }
  fs::path path_;
  std::unique_ptr<weights::WeightStore> store_;
};

#define NEED_MODELS()                                               \
  const Models* const models = Models::Get();                       \
  if (models == nullptr) {                                          \
    GTEST_SKIP() << "models are missing: run scripts/fetch_models"; \
  }

// A worker of its own, with a client.
class Worker {
 public:
  Worker(weights::WeightStore* store, ModelHostOptions options,
         bool tcp = false, WorkerServiceOptions service_options = {})
      : host_(ModelHost::Create(store, std::move(options))),
        service_(MakeWorkerService(host_.get(), service_options)) {
    auto server = rpc::Server::Start("127.0.0.1:0", {service_.get()});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = std::move(server).value();
    channel_ = tcp ? rpc::Connect(fmt::format("127.0.0.1:{}", server_->port()))
                   : server_->InProcessChannel();
    client_ = WorkerClient::Create(channel_);
  }
  ~Worker() { server_->Shutdown(absl::Now()); }

  Outcome Run(const v1::WorkerGenerateRequest& request) {
    return Running(*client_, request).Wait();
  }
  v1::WorkerStats::Model StatsOf(const std::string& name) {
    const auto stats = client_->Stats(Soon());
    EXPECT_TRUE(stats.ok()) << stats.status();
    for (const auto& model : stats->models()) {
      if (model.name() == name) return model;
    }
    return {};
  }
  WorkerClient& client() { return *client_; }
  ModelHost& host() { return *host_; }
  int port() const { return server_->port(); }

 private:
  std::unique_ptr<ModelHost> host_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<rpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<WorkerClient> client_;
};

inline ModelHostOptions Roomy() {
  return {.ram_budget_bytes = int64_t{2} << 30,
          .kv_budget_bytes = int64_t{256} << 20,
          .threads = 2};
}

}  // namespace conclave::workers

#endif  // CONCLAVE_EXPERT_WORKERS_WORKER_FIXTURE_H_
