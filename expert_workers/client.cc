#include "expert_workers/client.h"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "base/rpc/status.h"
#include "conclave/v1/worker.grpc.pb.h"

namespace conclave::workers {
namespace {

using rpc::FromGrpc;

void SetDeadline(grpc::ClientContext& context, absl::Time deadline) {
  if (deadline == absl::InfiniteFuture()) return;
  context.set_deadline(absl::ToChronoTime(deadline));
}

// The gRPC side of a stream; keeps itself alive until gRPC is done with it.
class Reader final : public grpc::ClientReadReactor<v1::GenerateEvent>,
                     public std::enable_shared_from_this<Reader> {
 public:
  Reader(const v1::WorkerGenerateRequest& request, absl::Time deadline,
         StreamCallbacks callbacks)
      : request_(request), callbacks_(std::move(callbacks)) {
    SetDeadline(context_, deadline);
  }

  void Start(v1::ExpertWorker::Stub& stub) {
    self_ = shared_from_this();
    stub.async()->Generate(&context_, &request_, this);
    StartRead(&event_);
    StartCall();
  }
  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    Enter();
    callbacks_.on_event(event_);
    Leave(/*done=*/false);
    event_.Clear();
    StartRead(&event_);
  }
  void OnDone(const grpc::Status& status) override {
    Enter();
    callbacks_.on_done(FromGrpc(status));
    Leave(/*done=*/true);
    const auto last = std::move(self_);  // May be the end of this object.
  }

  // Returns after on_done; at once when called from a callback, which cannot
  // wait for itself.
  void Wait() {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] {
      return done_ || in_callback_ == std::this_thread::get_id();
    });
  }

 private:
  void Enter() {
    std::lock_guard lock(mutex_);
    in_callback_ = std::this_thread::get_id();
  }
  void Leave(bool done) {
    {
      std::lock_guard lock(mutex_);
      in_callback_ = std::thread::id();
      done_ = done;
    }
    ended_.notify_all();
  }

  const v1::WorkerGenerateRequest request_;
  const StreamCallbacks callbacks_;
  grpc::ClientContext context_;
  v1::GenerateEvent event_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool done_ = false;
  std::thread::id in_callback_;
  std::shared_ptr<Reader> self_;
};

class GrpcStreamCall final : public StreamCall {
 public:
  explicit GrpcStreamCall(std::shared_ptr<Reader> reader)
      : reader_(std::move(reader)) {}
  ~GrpcStreamCall() override {
    reader_->Cancel();
    reader_->Wait();
  }
  void Cancel() override { reader_->Cancel(); }

 private:
  const std::shared_ptr<Reader> reader_;
};

class GrpcWorkerClient final : public WorkerClient {
 public:
  explicit GrpcWorkerClient(std::shared_ptr<grpc::Channel> channel)
      : stub_(v1::ExpertWorker::NewStub(std::move(channel))) {}

  std::unique_ptr<StreamCall> Generate(const v1::WorkerGenerateRequest& request,
                                       absl::Time deadline,
                                       StreamCallbacks callbacks) override {
    auto reader =
        std::make_shared<Reader>(request, deadline, std::move(callbacks));
    reader->Start(*stub_);
    return std::make_unique<GrpcStreamCall>(std::move(reader));
  }
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          absl::Time deadline) override {
    return Call<v1::EmbedResponse>(&v1::ExpertWorker::Stub::Embed, request,
                                   deadline);
  }
  absl::StatusOr<v1::LoadResponse> Load(const v1::LoadRequest& request,
                                        absl::Time deadline) override {
    return Call<v1::LoadResponse>(&v1::ExpertWorker::Stub::Load, request,
                                  deadline);
  }
  absl::StatusOr<v1::UnloadResponse> Unload(const v1::UnloadRequest& request,
                                            absl::Time deadline) override {
    return Call<v1::UnloadResponse>(&v1::ExpertWorker::Stub::Unload, request,
                                    deadline);
  }
  absl::StatusOr<v1::WorkerStats> Stats(absl::Time deadline) override {
    return Call<v1::WorkerStats>(&v1::ExpertWorker::Stub::Stats,
                                 v1::WorkerStatsRequest(), deadline);
  }

 private:
  template <typename Response, typename Method, typename Request>
  absl::StatusOr<Response> Call(Method method, const Request& request,
                                absl::Time deadline) {
    grpc::ClientContext context;
    SetDeadline(context, deadline);
    Response response;
    const grpc::Status status =
        (stub_.get()->*method)(&context, request, &response);
    if (!status.ok()) return FromGrpc(status);
    return response;
  }

  const std::unique_ptr<v1::ExpertWorker::Stub> stub_;
};

}  // namespace

std::unique_ptr<WorkerClient> WorkerClient::Create(
    std::shared_ptr<grpc::Channel> channel) {
  return std::make_unique<GrpcWorkerClient>(std::move(channel));
}

}  // namespace conclave::workers
