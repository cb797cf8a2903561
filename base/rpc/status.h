// absl::Status <-> grpc::Status. Their codes share numbers, so each direction
// is one cast.
#ifndef CONCLAVE_BASE_RPC_STATUS_H_
#define CONCLAVE_BASE_RPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <cstddef>

#include "base/status.h"

namespace conclave::rpc {

// What of a message crosses: gRPC puts it into an HTTP/2 header, every byte
// that is not ASCII as three, and a peer ends a call whose headers exceed 8 KiB
// with an error that says nothing of ours.
inline constexpr size_t kMaxErrorBytes = 2048;

// A longer message is cut between two characters, and ends in an ellipsis.
grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace conclave::rpc

#endif  // CONCLAVE_BASE_RPC_STATUS_H_
