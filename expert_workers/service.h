// The worker over gRPC: a thin skin over ModelHost.
#ifndef CONCLAVE_EXPERT_WORKERS_SERVICE_H_
#define CONCLAVE_EXPERT_WORKERS_SERVICE_H_

#include <grpcpp/impl/service_type.h>

#include <cstddef>
#include <memory>

#include "expert_workers/model_host.h"

namespace conclave::workers {

struct WorkerServiceOptions {
  // What may wait for a reader that does not keep up, in bytes of messages;
  // beyond it the call ends with RESOURCE_EXHAUSTED. Deltas that wait are
  // merged, so only an answer larger than this can get there.
  size_t max_unread_bytes = size_t{4} << 20;
};

// `host` is borrowed and outlives the server; so does the service.
std::unique_ptr<grpc::Service> MakeWorkerService(
    ModelHost* host, const WorkerServiceOptions& options = {});

}  // namespace conclave::workers

#endif  // CONCLAVE_EXPERT_WORKERS_SERVICE_H_
