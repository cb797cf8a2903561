#include "router_service/client.h"

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "base/rpc/status.h"
#include "conclave/v1/router.grpc.pb.h"

namespace conclave::router {
namespace {

void SetDeadline(grpc::ClientContext& context, absl::Time deadline) {
  if (deadline != absl::InfiniteFuture()) {
    context.set_deadline(absl::ToChronoTime(deadline));
  }
}

// One stream. It holds itself until gRPC is done with it; the handle that the
// caller has may be gone before.
class Stream final : public grpc::ClientReadReactor<v1::GenerateEvent> {
 public:
  Stream(v1::GenerateRequest request, absl::Time deadline,
         StreamCallbacks callbacks)
      : request_(std::move(request)), callbacks_(std::move(callbacks)) {
    SetDeadline(context_, deadline);
  }

  void Start(v1::Router::Stub& stub, std::shared_ptr<Stream> self) {
    self_ = std::move(self);
    stub.async()->Generate(&context_, &request_, this);
    // Reads begin outside of reactions too (Resume): the hold keeps the call
    // until the last read has failed.
    AddHold();
    StartRead(&event_);
    StartCall();
  }

  void Cancel() {
    context_.TryCancel();
    Resume();
  }
  void Pause() {
    std::lock_guard lock(mutex_);
    paused_ = true;
  }
  void Resume() {
    {
      std::lock_guard lock(mutex_);
      paused_ = false;
      if (!std::exchange(waiting_, false)) return;
    }
    StartRead(&event_);
  }
  void Wait() {
    if (done_thread_ == std::this_thread::get_id()) return;
    std::unique_lock lock(mutex_);
    done_cv_.wait(lock, [this] { return done_; });
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) return RemoveHold();
    callbacks_.on_event(event_);
    {
      std::lock_guard lock(mutex_);
      if (paused_) {
        waiting_ = true;
        return;
      }
    }
    StartRead(&event_);
  }

  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<Stream> self = std::move(self_);
    done_thread_ = std::this_thread::get_id();
    callbacks_.on_done(rpc::FromGrpc(status));
    callbacks_ = {};
    done_thread_ = std::thread::id();
    std::lock_guard lock(mutex_);
    done_ = true;
    done_cv_.notify_all();
  }

  const v1::GenerateRequest request_;
  StreamCallbacks callbacks_;
  grpc::ClientContext context_;
  v1::GenerateEvent event_;
  std::shared_ptr<Stream> self_;
  std::mutex mutex_;
  std::condition_variable done_cv_;
  bool paused_ = false;
  bool waiting_ = false;  // a read is due once resumed
  bool done_ = false;
  std::atomic<std::thread::id> done_thread_{};
};

class Handle final : public StreamCall {
 public:
  explicit Handle(std::shared_ptr<Stream> stream)
      : stream_(std::move(stream)) {}
  ~Handle() override {
    stream_->Cancel();
    stream_->Wait();
  }
  void Cancel() override { stream_->Cancel(); }
  void Pause() override { stream_->Pause(); }
  void Resume() override { stream_->Resume(); }

 private:
  const std::shared_ptr<Stream> stream_;
};

class GrpcRouterClient final : public RouterClient {
 public:
  explicit GrpcRouterClient(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(v1::Router::NewStub(channel)) {}

  std::unique_ptr<StreamCall> Generate(const v1::GenerateRequest& request,
                                       absl::Time deadline,
                                       StreamCallbacks callbacks) override {
    auto stream =
        std::make_shared<Stream>(request, deadline, std::move(callbacks));
    stream->Start(*stub_, stream);
    return std::make_unique<Handle>(std::move(stream));
  }

  absl::StatusOr<v1::Decision> Route(const v1::RouteRequest& request,
                                     absl::Time deadline) override {
    return Call<v1::Decision>(&v1::Router::Stub::Route, request, deadline);
  }
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          absl::Time deadline) override {
    return Call<v1::EmbedResponse>(&v1::Router::Stub::Embed, request, deadline);
  }
  absl::StatusOr<v1::ExplainResponse> Explain(const v1::ExplainRequest& request,
                                              absl::Time deadline) override {
    return Call<v1::ExplainResponse>(&v1::Router::Stub::Explain, request,
                                     deadline);
  }
  absl::StatusOr<v1::FeedbackResponse> Feedback(
      const v1::FeedbackRequest& request, absl::Time deadline) override {
    return Call<v1::FeedbackResponse>(&v1::Router::Stub::Feedback, request,
                                      deadline);
  }

 private:
  template <typename Response, typename Request>
  absl::StatusOr<Response> Call(
      grpc::Status (v1::Router::Stub::*method)(grpc::ClientContext*,
                                               const Request&, Response*),
      const Request& request, absl::Time deadline) {
    grpc::ClientContext context;
    SetDeadline(context, deadline);
    Response response;
    const absl::Status status =
        rpc::FromGrpc(((*stub_).*method)(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }

  const std::unique_ptr<v1::Router::Stub> stub_;
};

}  // namespace

std::unique_ptr<RouterClient> RouterClient::Create(
    std::shared_ptr<grpc::Channel> channel) {
  return std::make_unique<GrpcRouterClient>(channel);
}

}  // namespace conclave::router
