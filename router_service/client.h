// Speaks to the router. Shows no gRPC type: messages are plain protobuf.
// Threads and callbacks as in expert_workers/client.h.
#ifndef CONCLAVE_ROUTER_SERVICE_CLIENT_H_
#define CONCLAVE_ROUTER_SERVICE_CLIENT_H_

#include <absl/time/time.h>

#include <memory>

#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "conclave/v1/router.pb.h"
#include "expert_workers/client.h"

namespace conclave::router {

class RouterClient {
 public:
  static std::unique_ptr<RouterClient> Create(
      std::shared_ptr<grpc::Channel> channel);
  virtual ~RouterClient() = default;

  virtual std::unique_ptr<StreamCall> Generate(
      const v1::GenerateRequest& request, absl::Time deadline,
      StreamCallbacks callbacks) = 0;
  virtual absl::StatusOr<v1::Decision> Route(const v1::RouteRequest& request,
                                             absl::Time deadline) = 0;
  virtual absl::StatusOr<v1::EmbedResponse> Embed(
      const v1::EmbedRequest& request, absl::Time deadline) = 0;
  virtual absl::StatusOr<v1::ExplainResponse> Explain(
      const v1::ExplainRequest& request, absl::Time deadline) = 0;
  virtual absl::StatusOr<v1::FeedbackResponse> Feedback(
      const v1::FeedbackRequest& request, absl::Time deadline) = 0;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLIENT_H_
