#include "expert_workers/service.h"

#include <grpcpp/grpcpp.h>

#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "base/rpc/status.h"
#include "conclave/v1/worker.grpc.pb.h"

namespace conclave::workers {
namespace {

using rpc::ToGrpc;

absl::Time Deadline(const grpc::CallbackServerContext& context) {
  const auto deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) {
    return absl::InfiniteFuture();
  }
  return absl::FromChrono(deadline);
}

// One stream. Events come from the engine's thread and never wait for the
// reader: what is not written yet is queued, and merged where it can be.
//
//   host: on_event* on_done -> queue -> StartWrite, one at a time -> Finish
//
// Finish is called once the host is done with the call, so nothing arrives
// after OnDone, which deletes the stream.
class GenerateStream final
    : public grpc::ServerWriteReactor<v1::GenerateEvent> {
 public:
  GenerateStream(ModelHost* host, const v1::WorkerGenerateRequest& request,
                 absl::Time deadline, size_t max_unread_bytes)
      : max_unread_bytes_(max_unread_bytes) {
    auto call = host->Generate(
        request, deadline,
        {.on_event = [this](const v1::GenerateEvent& event) { Add(event); },
         .on_done = [this](absl::Status status) { End(std::move(status)); }});
    std::lock_guard lock(mutex_);
    call_ = std::move(call);
    if (given_up_.has_value()) call_->Cancel();
  }

  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) GiveUpLocked(absl::CancelledError("the caller is gone"));
    PumpLocked();
  }
  void OnCancel() override {
    std::lock_guard lock(mutex_);
    GiveUpLocked(absl::CancelledError("cancelled"));
  }
  void OnDone() override {
    // Whoever called Finish may still hold the mutex.
    { std::lock_guard lock(mutex_); }
    delete this;
  }

 private:
  void Add(const v1::GenerateEvent& event) {
    std::lock_guard lock(mutex_);
    if (given_up_.has_value()) return;
    unread_bytes_ += event.ByteSizeLong();
    if (unread_bytes_ > max_unread_bytes_) {
      GiveUpLocked(absl::ResourceExhaustedError(
          "the answer was not read fast enough and was given up"));
      return;
    }
    if (!Merge(event)) queue_.push_back(event);
    PumpLocked();
  }

  // Joins `event` to the newest one that waits, when both are deltas of one
  // answer.
  bool Merge(const v1::GenerateEvent& event) {
    if (queue_.empty() || !event.has_delta() || !queue_.back().has_delta()) {
      return false;
    }
    v1::GenerateEvent::Delta& last = *queue_.back().mutable_delta();
    const v1::GenerateEvent::Delta& next = event.delta();
    if (last.index() != next.index()) return false;
    last.mutable_text()->append(next.text());
    last.mutable_tokens()->MergeFrom(next.tokens());
    last.mutable_logprobs()->MergeFrom(next.logprobs());
    return true;
  }

  void End(absl::Status status) {
    std::lock_guard lock(mutex_);
    end_ = std::move(status);
    PumpLocked();
  }

  // Stops the work; the stream ends with `status` once the host has stopped.
  void GiveUpLocked(absl::Status status) {
    if (given_up_.has_value()) return;
    given_up_ = std::move(status);
    queue_.clear();
    unread_bytes_ = 0;
    if (call_ != nullptr) call_->Cancel();
  }

  void PumpLocked() {
    if (writing_ || finished_) return;
    if (!queue_.empty()) {
      message_ = std::move(queue_.front());
      queue_.pop_front();
      if (queue_.empty()) unread_bytes_ = 0;
      writing_ = true;
      StartWrite(&message_);
    } else if (end_.has_value()) {
      finished_ = true;
      Finish(ToGrpc(given_up_.value_or(*end_)));
    }
  }

  const size_t max_unread_bytes_;
  std::mutex mutex_;
  std::shared_ptr<HostCall> call_;
  std::deque<v1::GenerateEvent> queue_;
  size_t unread_bytes_ = 0;
  v1::GenerateEvent message_;
  bool writing_ = false;
  bool finished_ = false;
  std::optional<absl::Status> end_;       // the host's
  std::optional<absl::Status> given_up_;  // ours
};

// A call with one answer, which the host gives later.
class LaterAnswer final : public grpc::ServerUnaryReactor {
 public:
  // `begin` starts the call and is given what to do with its end.
  template <typename Begin>
  explicit LaterAnswer(const Begin& begin)
      : call_(begin(
            [this](const absl::Status& status) { Finish(ToGrpc(status)); })) {}
  void OnCancel() override { call_->Cancel(); }
  void OnDone() override { delete this; }

 private:
  const std::shared_ptr<HostCall> call_;
};

// Fills `response` from the host's answer, then ends the call.
template <typename Response, typename Finish>
auto Into(Response* response, Finish finish) {
  return [response, finish](absl::StatusOr<Response> answer) {
    if (answer.ok()) *response = *std::move(answer);
    finish(answer.status());
  };
}

class WorkerService final : public v1::ExpertWorker::CallbackService {
 public:
  WorkerService(ModelHost* host, const WorkerServiceOptions& options)
      : host_(host), options_(options) {}

  grpc::ServerWriteReactor<v1::GenerateEvent>* Generate(
      grpc::CallbackServerContext* context,
      const v1::WorkerGenerateRequest* request) override {
    return new GenerateStream(host_, *request, Deadline(*context),
                              options_.max_unread_bytes);
  }
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context,
                                  const v1::EmbedRequest* request,
                                  v1::EmbedResponse* response) override {
    return new LaterAnswer([&](auto finish) {
      return host_->Embed(*request, Deadline(*context), Into(response, finish));
    });
  }
  grpc::ServerUnaryReactor* Load(grpc::CallbackServerContext* context,
                                 const v1::LoadRequest* request,
                                 v1::LoadResponse* response) override {
    return new LaterAnswer([&](auto finish) {
      return host_->Load(*request, Deadline(*context), Into(response, finish));
    });
  }
  grpc::ServerUnaryReactor* Unload(grpc::CallbackServerContext* context,
                                   const v1::UnloadRequest* request,
                                   v1::UnloadResponse*) override {
    return new LaterAnswer([&](auto finish) {
      return host_->Unload(*request, Deadline(*context), finish);
    });
  }
  grpc::ServerUnaryReactor* Stats(grpc::CallbackServerContext* context,
                                  const v1::WorkerStatsRequest*,
                                  v1::WorkerStats* response) override {
    *response = host_->Stats();
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

 private:
  ModelHost* const host_;
  const WorkerServiceOptions options_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeWorkerService(
    ModelHost* host, const WorkerServiceOptions& options) {
  return std::make_unique<WorkerService>(host, options);
}

}  // namespace conclave::workers
