// Speaks to a worker. Shows no gRPC type: messages are plain protobuf.
//
// Threads: all methods may run concurrently; callbacks come one at a time for
// one call, on a thread of gRPC's that the whole process shares: they must not
// block. Who cannot keep up pauses the stream (that is the back-pressure).
#ifndef CONCLAVE_EXPERT_WORKERS_CLIENT_H_
#define CONCLAVE_EXPERT_WORKERS_CLIENT_H_

#include <absl/time/time.h>

#include <memory>

#include "base/status.h"
#include "base/stream_call.h"
#include "conclave/v1/common.pb.h"
#include "conclave/v1/worker.pb.h"

namespace grpc {
class Channel;
}

namespace conclave {

using StreamCallbacks = EventCallbacks<v1::GenerateEvent>;

}  // namespace conclave

namespace conclave::workers {

class WorkerClient {
 public:
  static std::unique_ptr<WorkerClient> Create(
      std::shared_ptr<grpc::Channel> channel);
  virtual ~WorkerClient() = default;

  virtual std::unique_ptr<StreamCall> Generate(
      const v1::WorkerGenerateRequest& request, absl::Time deadline,
      StreamCallbacks callbacks) = 0;
  virtual absl::StatusOr<v1::EmbedResponse> Embed(
      const v1::EmbedRequest& request, absl::Time deadline) = 0;
  virtual absl::StatusOr<v1::LoadResponse> Load(const v1::LoadRequest& request,
                                                absl::Time deadline) = 0;
  virtual absl::StatusOr<v1::UnloadResponse> Unload(
      const v1::UnloadRequest& request, absl::Time deadline) = 0;
  virtual absl::StatusOr<v1::WorkerStats> Stats(absl::Time deadline) = 0;
};

}  // namespace conclave::workers

#endif  // CONCLAVE_EXPERT_WORKERS_CLIENT_H_
