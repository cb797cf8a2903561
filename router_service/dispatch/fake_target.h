// Targets and resolvers that do as they are told. Useful for the dispatcher's
// and the router core's tests: every failure, at every moment.
#ifndef CONCLAVE_ROUTER_SERVICE_DISPATCH_FAKE_TARGET_H_
#define CONCLAVE_ROUTER_SERVICE_DISPATCH_FAKE_TARGET_H_

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "router_service/dispatch/target.h"

namespace conclave::router {

// Plays a script on a thread of its own: events, then a status. With `hang` it
// waits for Cancel between them. `at_once` plays inside Generate instead.
class FakeTarget final : public Target {
 public:
  struct Script {
    std::vector<std::string> words = {};  // one delta each
    absl::Status status = {};             // OK: finished and usage come first
    bool hang = false;
    bool at_once = false;
    bool started = true;
  };
  explicit FakeTarget(Script script) : script_(std::move(script)) {}

  std::unique_ptr<StreamCall> Generate(const v1::WorkerGenerateRequest& request,
                                       absl::Time,
                                       StreamCallbacks callbacks) override {
    {
      std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    return std::make_unique<Call>(script(), std::move(callbacks));
  }
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          absl::Time) override {
    const Script now = script();
    if (!now.status.ok()) return now.status;
    v1::EmbedResponse response;
    for (int i = 0; i < request.inputs_size(); ++i) {
      response.add_embeddings()->add_values(1);
    }
    return response;
  }

  void SetScript(Script script) {
    std::lock_guard lock(mutex_);
    script_ = std::move(script);
  }
  std::vector<v1::WorkerGenerateRequest> requests() const {
    std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  class Call final : public StreamCall {
   public:
    Call(Script script, StreamCallbacks callbacks)
        : script_(std::move(script)), callbacks_(std::move(callbacks)) {
      if (script_.at_once) {
        Play();
      } else {
        thread_ = std::thread([this] { Play(); });
      }
    }
    ~Call() override {
      Cancel();
      if (thread_.joinable()) thread_.join();
    }
    void Cancel() override {
      {
        std::lock_guard lock(mutex_);
        cancelled_ = true;
      }
      changed_.notify_all();
    }

   private:
    void Play() {
      v1::GenerateEvent event;
      if (script_.started) {
        event.mutable_started()->set_model("fake");
        callbacks_.on_event(event);
      }
      for (const std::string& word : script_.words) {
        event.mutable_delta()->set_text(word);
        callbacks_.on_event(event);
      }
      if (script_.hang) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return cancelled_; });
        lock.unlock();
        return callbacks_.on_done(Cancelled("told to"));
      }
      if (script_.status.ok() && script_.started) {
        event.mutable_finished()->set_reason("stop");
        callbacks_.on_event(event);
        event.mutable_usage()->set_completion_tokens(
            static_cast<int64_t>(script_.words.size()));
        callbacks_.on_event(event);
      }
      callbacks_.on_done(script_.status);
    }

    const Script script_;
    const StreamCallbacks callbacks_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool cancelled_ = false;
    std::thread thread_;
  };

  Script script() const {
    std::lock_guard lock(mutex_);
    return script_;
  }

  mutable std::mutex mutex_;
  Script script_;
  std::vector<v1::WorkerGenerateRequest> requests_;
};

// Resolves each name to the targets it was given.
class FakeResolver final : public TargetResolver {
 public:
  // Another target for `expert`, asked after those before it.
  std::shared_ptr<FakeTarget> Add(const std::string& expert,
                                  FakeTarget::Script script) {
    auto target = std::make_shared<FakeTarget>(std::move(script));
    auto& targets = experts_[expert].targets;
    experts_[expert].uses = {expert};
    targets.push_back({fmt::format("{} {}", expert, targets.size()), target});
    return target;
  }
  absl::StatusOr<ResolvedExpert> Resolve(const registry::Snapshot&,
                                         const std::string& name) override {
    const auto found = experts_.find(name);
    if (found == experts_.end()) return Unavailable("no worker runs {}", name);
    return found->second;
  }

 private:
  std::map<std::string, ResolvedExpert> experts_;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_DISPATCH_FAKE_TARGET_H_
