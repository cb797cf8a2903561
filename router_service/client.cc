#include "router_service/client.h"

#include <grpcpp/channel.h>

#include <utility>

#include "base/rpc/client_call.h"
#include "conclave/v1/router.grpc.pb.h"

namespace conclave::router {
namespace {

class GrpcRouterClient final : public RouterClient {
 public:
  explicit GrpcRouterClient(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(v1::Router::NewStub(channel)) {}

  std::unique_ptr<StreamCall> Generate(const v1::GenerateRequest& request,
                                       absl::Time deadline,
                                       StreamCallbacks callbacks) override {
    return rpc::StartStream(stub_->async(), &v1::Router::Stub::async::Generate,
                            request, deadline, std::move(callbacks));
  }

  absl::StatusOr<v1::Decision> Route(const v1::RouteRequest& request,
                                     absl::Time deadline) override {
    return rpc::Call(*stub_, &v1::Router::Stub::Route, request, deadline);
  }
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          absl::Time deadline) override {
    return rpc::Call(*stub_, &v1::Router::Stub::Embed, request, deadline);
  }
  absl::StatusOr<v1::ExplainResponse> Explain(const v1::ExplainRequest& request,
                                              absl::Time deadline) override {
    return rpc::Call(*stub_, &v1::Router::Stub::Explain, request, deadline);
  }
  absl::StatusOr<v1::FeedbackResponse> Feedback(
      const v1::FeedbackRequest& request, absl::Time deadline) override {
    return rpc::Call(*stub_, &v1::Router::Stub::Feedback, request, deadline);
  }

 private:
  const std::unique_ptr<v1::Router::Stub> stub_;
};

}  // namespace

std::unique_ptr<RouterClient> RouterClient::Create(
    std::shared_ptr<grpc::Channel> channel) {
  return std::make_unique<GrpcRouterClient>(channel);
}

}  // namespace conclave::router
