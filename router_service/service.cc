#include "router_service/service.h"

#include <absl/time/clock.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "base/rpc/status.h"

namespace conclave::router {
namespace {

constexpr size_t kPauseBytes = size_t{256} << 10;
constexpr size_t kMaxQueuedBytes = size_t{16} << 20;
constexpr size_t kMaxWaitingCalls = 1024;

absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  return deadline == std::chrono::system_clock::time_point::max()
             ? absl::InfiniteFuture()
             : absl::FromChrono(deadline);
}

absl::Status TooBusy() {
  return ResourceExhausted(
      "the router has {} calls waiting already; try "
      "again in a moment",
      kMaxWaitingCalls);
}

// One stream. gRPC deletes it (OnDone) after Finish, and Finish comes only
// when the call has been started, has ended, and nothing is being written.
class GenerateStream final
    : public grpc::ServerWriteReactor<v1::GenerateEvent> {
 public:
  // On a thread of the service's.
  void Start(RouterCore& core, const v1::GenerateRequest& request,
             absl::Time deadline) {
    StreamCallbacks callbacks;
    callbacks.on_event = [this](const v1::GenerateEvent& event) {
      OnEvent(event);
    };
    callbacks.on_done = [this](absl::Status status) {
      Update([&] { status_ = std::move(status); });
    };
    auto call = core.Generate(request, deadline, std::move(callbacks));
    Update([&] {
      call_ = std::move(call);
      if (cancelled_) call_->Cancel();
      if (paused_) call_->Pause();
    });
  }

  // Instead of Start.
  void Refuse(const absl::Status& status) { Finish(rpc::ToGrpc(status)); }

 private:
  // Makes a change, then whatever follows from it.
  template <typename Change>
  void Update(Change change) {
    bool finish = false;
    {
      std::lock_guard lock(mutex_);
      change();
      if (!writing_ && !queue_.empty()) {
        writing_ = true;
        StartWrite(&queue_.front());
      }
      if (!writing_ && call_ != nullptr && status_.has_value()) {
        finish = !std::exchange(finishing_, true);
      }
    }
    // Last, and without the lock: this may be gone when it returns.
    if (finish) Finish(rpc::ToGrpc(too_slow_.ok() ? *status_ : too_slow_));
  }

  void OnEvent(const v1::GenerateEvent& event) {
    Update([&] {
      if (cancelled_) return;
      queued_bytes_ += event.ByteSizeLong();
      queue_.push_back(event);
      if (queued_bytes_ > kMaxQueuedBytes) {
        too_slow_ = ResourceExhausted(
            "the reader is too slow: {} bytes of the answer wait for it",
            queued_bytes_);
        CancelLocked();
      } else if (queued_bytes_ > kPauseBytes && !paused_) {
        paused_ = true;
        if (call_ != nullptr) call_->Pause();
      }
    });
  }

  void OnWriteDone(bool ok) override {
    Update([&] {
      writing_ = false;
      queued_bytes_ -= queue_.front().ByteSizeLong();
      queue_.pop_front();
      if (!ok) return CancelLocked();
      if (paused_ && queued_bytes_ < kPauseBytes / 2) {
        paused_ = false;
        if (call_ != nullptr) call_->Resume();
      }
    });
  }

  void OnCancel() override {
    Update([&] { CancelLocked(); });
  }

  void OnDone() override { delete this; }

  // Nobody reads any more: what is queued is dropped, but for the event that
  // gRPC holds.
  void CancelLocked() {
    cancelled_ = true;
    const size_t kept = writing_ ? 1 : 0;
    while (queue_.size() > kept) {
      queued_bytes_ -= queue_.back().ByteSizeLong();
      queue_.pop_back();
    }
    if (call_ != nullptr) call_->Cancel();
  }

  std::mutex mutex_;
  std::deque<v1::GenerateEvent> queue_;  // the front is being written
  size_t queued_bytes_ = 0;
  bool writing_ = false;
  bool paused_ = false;
  bool cancelled_ = false;
  bool finishing_ = false;
  absl::Status too_slow_;
  std::optional<absl::Status> status_;  // set once the call has ended
  std::unique_ptr<StreamCall> call_;
};

}  // namespace

RouterService::RouterService(RouterCore* core)
    : core_(core),
      deciding_(
          std::max(2, static_cast<int>(std::thread::hardware_concurrency())),
          kMaxWaitingCalls),
      waiting_(8, kMaxWaitingCalls) {}

grpc::ServerUnaryReactor* RouterService::RunOn(
    WorkPool& pool, grpc::CallbackServerContext* context,
    std::function<absl::Status()> work) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const bool posted = pool.Post([reactor, work = std::move(work)] {
    reactor->Finish(rpc::ToGrpc(work()));
  });
  if (!posted) reactor->Finish(rpc::ToGrpc(TooBusy()));
  return reactor;
}

grpc::ServerUnaryReactor* RouterService::Route(
    grpc::CallbackServerContext* context, const v1::RouteRequest* request,
    v1::Decision* response) {
  return RunOn(deciding_, context, [this, request, response] {
    absl::StatusOr<v1::Decision> decision = core_->Route(*request);
    if (decision.ok()) *response = *std::move(decision);
    return decision.status();
  });
}

grpc::ServerWriteReactor<v1::GenerateEvent>* RouterService::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  auto* const stream = new GenerateStream;
  const bool posted =
      deciding_.Post([this, stream, request, deadline = DeadlineOf(*context)] {
        stream->Start(*core_, *request, deadline);
      });
  if (!posted) stream->Refuse(TooBusy());
  return stream;
}

grpc::ServerUnaryReactor* RouterService::Embed(
    grpc::CallbackServerContext* context, const v1::EmbedRequest* request,
    v1::EmbedResponse* response) {
  return RunOn(waiting_, context,
               [this, request, response, deadline = DeadlineOf(*context)] {
                 auto embedded = core_->Embed(*request, deadline);
                 if (embedded.ok()) *response = *std::move(embedded);
                 return embedded.status();
               });
}

grpc::ServerUnaryReactor* RouterService::Explain(
    grpc::CallbackServerContext* context, const v1::ExplainRequest* request,
    v1::ExplainResponse* response) {
  return RunOn(waiting_, context, [this, request, response] {
    auto explained = core_->Explain(*request);
    if (explained.ok()) *response = *std::move(explained);
    return explained.status();
  });
}

grpc::ServerUnaryReactor* RouterService::Feedback(
    grpc::CallbackServerContext* context, const v1::FeedbackRequest* request,
    v1::FeedbackResponse*) {
  return RunOn(waiting_, context,
               [this, request] { return core_->Feedback(*request); });
}

}  // namespace conclave::router
