// absl::Status <-> grpc::Status. Their codes share numbers, so each direction
// is one cast.
#ifndef CONCLAVE_BASE_RPC_STATUS_H_
#define CONCLAVE_BASE_RPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "base/status.h"

namespace conclave::rpc {

grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace conclave::rpc

#endif  // CONCLAVE_BASE_RPC_STATUS_H_
