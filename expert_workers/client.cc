#include "expert_workers/client.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "base/rpc/client_call.h"
#include "conclave/v1/worker.grpc.pb.h"

namespace conclave::workers {
namespace {

class GrpcWorkerClient final : public WorkerClient {
 public:
  explicit GrpcWorkerClient(std::shared_ptr<grpc::Channel> channel)
      : stub_(v1::ExpertWorker::NewStub(std::move(channel))) {}

  std::unique_ptr<StreamCall> Generate(const v1::WorkerGenerateRequest& request,
                                       absl::Time deadline,
                                       StreamCallbacks callbacks) override {
    return rpc::StartStream(stub_->async(),
                            &v1::ExpertWorker::Stub::async::Generate, request,
                            deadline, std::move(callbacks));
  }
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          absl::Time deadline) override {
    return rpc::Call(*stub_, &v1::ExpertWorker::Stub::Embed, request, deadline);
  }
  absl::StatusOr<v1::LoadResponse> Load(const v1::LoadRequest& request,
                                        absl::Time deadline) override {
    return rpc::Call(*stub_, &v1::ExpertWorker::Stub::Load, request, deadline);
  }
  absl::StatusOr<v1::UnloadResponse> Unload(const v1::UnloadRequest& request,
                                            absl::Time deadline) override {
    return rpc::Call(*stub_, &v1::ExpertWorker::Stub::Unload, request,
                     deadline);
  }
  absl::StatusOr<v1::WorkerStats> Stats(absl::Time deadline) override {
    return rpc::Call(*stub_, &v1::ExpertWorker::Stub::Stats,
                     v1::WorkerStatsRequest(), deadline);
  }

 private:
  const std::unique_ptr<v1::ExpertWorker::Stub> stub_;
};

}  // namespace

std::unique_ptr<WorkerClient> WorkerClient::Create(
    std::shared_ptr<grpc::Channel> channel) {
  return std::make_unique<GrpcWorkerClient>(std::move(channel));
}

}  // namespace conclave::workers
