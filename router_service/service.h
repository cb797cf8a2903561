// The Router gRPC service: a thin skin over RouterCore.
//
// A stream's events wait in a queue while its reader is slow: from 256 KiB on
// the answering target is asked to pause, beyond 16 MiB (a target that cannot
// pause) the stream ends with RESOURCE_EXHAUSTED. Calls that would block run
// on the service's own threads; when too many wait, RESOURCE_EXHAUSTED.
#ifndef CONCLAVE_ROUTER_SERVICE_SERVICE_H_
#define CONCLAVE_ROUTER_SERVICE_SERVICE_H_

#include <functional>

#include "conclave/v1/router.grpc.pb.h"
#include "router_service/router_core.h"
#include "router_service/work_pool.h"

namespace conclave::router {

class RouterService final : public v1::Router::CallbackService {
 public:
  // Borrows it. The server must be shut down before the service goes.
  explicit RouterService(RouterCore* core);

  grpc::ServerUnaryReactor* Route(grpc::CallbackServerContext* context,
                                  const v1::RouteRequest* request,
                                  v1::Decision* response) override;
  grpc::ServerWriteReactor<v1::GenerateEvent>* Generate(
      grpc::CallbackServerContext* context,
      const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context,
                                  const v1::EmbedRequest* request,
                                  v1::EmbedResponse* response) override;
  grpc::ServerUnaryReactor* Explain(grpc::CallbackServerContext* context,
                                    const v1::ExplainRequest* request,
                                    v1::ExplainResponse* response) override;
  grpc::ServerUnaryReactor* Feedback(grpc::CallbackServerContext* context,
                                     const v1::FeedbackRequest* request,
                                     v1::FeedbackResponse* response) override;

 private:
  grpc::ServerUnaryReactor* RunOn(WorkPool& pool,
                                  grpc::CallbackServerContext* context,
                                  std::function<absl::Status()> work);

  RouterCore* const core_;
  WorkPool deciding_;  // uses the processor: as many as there are
  WorkPool waiting_;   // waits for a worker or the disk
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_SERVICE_H_
