// Targets and resolvers that do as they are told. Useful for the dispatcher's
// and the router core's tests: every failure, at every moment.
#ifndef CONCLAVE_ROUTER_SERVICE_DISPATCH_FAKE_TARGET_H_
#define CONCLAVE_ROUTER_SERVICE_DISPATCH_FAKE_TARGET_H_

#include <atomic>
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
// waits for Cancel between them, with `endless` it repeats the last word until
// then. `at_once` plays inside Generate instead; a `deaf` one does not pause.
class FakeTarget final : public Target {
 public:
  struct Script {
    std::vector<std::string> words = {};  // one delta each
    absl::Status status = {};             // OK: finished and usage come first
    bool hang = false;
    bool endless = false;
    bool at_once = false;
    bool deaf = false;
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
    return std::make_unique<Call>(script(), std::move(callbacks), sent_bytes_);
  }
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          absl::Time deadline) override {
    const Script now = script();
    embed_deadline = deadline;
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
  // Text sent by all calls.
  int64_t sent_bytes() const { return *sent_bytes_; }

  absl::Time embed_deadline;  // of the last Embed

 private:
  using Counter = std::shared_ptr<std::atomic<int64_t>>;

  class Call final : public StreamCall {
   public:
    Call(Script script, StreamCallbacks callbacks, Counter sent_bytes)
        : script_(std::move(script)),
          callbacks_(std::move(callbacks)),
          sent_bytes_(std::move(sent_bytes)) {
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
    void Cancel() override { Set(cancelled_, true); }
    void Pause() override { Set(paused_, true); }
    void Resume() override { Set(paused_, false); }

   private:
    void Set(bool& flag, bool value) {
      {
        std::lock_guard lock(mutex_);
        flag = value;
      }
      changed_.notify_all();
    }
    // False when cancelled.
    bool WaitWhilePaused() {
      std::unique_lock lock(mutex_);
      changed_.wait(lock,
                    [this] { return cancelled_ || !paused_ || script_.deaf; });
      return !cancelled_;
    }
    void Say(const std::string& word) {
      v1::GenerateEvent event;
      event.mutable_delta()->set_text(word);
      *sent_bytes_ += static_cast<int64_t>(word.size());
      callbacks_.on_event(event);
    }

    bool IsCancelled() {
      std::lock_guard lock(mutex_);
      return cancelled_;
    }

    void Play() {
      v1::GenerateEvent event;
      if (script_.started) {
        event.mutable_started()->set_model("fake");
        callbacks_.on_event(event);
      }
      for (const std::string& word : script_.words) {
        if (!WaitWhilePaused()) break;
        Say(word);
      }
      while (script_.endless && WaitWhilePaused()) Say(script_.words.back());
      if (script_.hang) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return cancelled_; });
      }
      if (IsCancelled()) return callbacks_.on_done(Cancelled("told to"));
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
    const Counter sent_bytes_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool cancelled_ = false;
    bool paused_ = false;
    std::thread thread_;
  };

  Script script() const {
    std::lock_guard lock(mutex_);
    return script_;
  }

  mutable std::mutex mutex_;
  Script script_;
  std::vector<v1::WorkerGenerateRequest> requests_;
  const Counter sent_bytes_ = std::make_shared<std::atomic<int64_t>>(0);
};

// Resolves each name to the targets it was given.
class FakeResolver final : public TargetResolver {
 public:
  // Another target for `expert`, asked after those before it.
  std::shared_ptr<FakeTarget> Add(const std::string& expert,
                                  FakeTarget::Script script) {
    auto target = std::make_shared<FakeTarget>(std::move(script));
    const std::lock_guard lock(mutex_);
    auto& targets = experts_[expert].targets;
    experts_[expert].uses = {expert};
    targets.push_back({fmt::format("{} {}", expert, targets.size()), target});
    return target;
  }
  void Clear() {
    const std::lock_guard lock(mutex_);
    experts_.clear();
  }
  absl::StatusOr<ResolvedExpert> Resolve(const registry::Snapshot&,
                                         const std::string& name) override {
    const std::lock_guard lock(mutex_);
    const auto found = experts_.find(name);
    if (found == experts_.end()) return Unavailable("no worker runs {}", name);
    return found->second;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, ResolvedExpert> experts_;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_DISPATCH_FAKE_TARGET_H_
