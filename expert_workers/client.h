// Speaks to a worker. Shows no gRPC type: messages are plain protobuf.
//
// Threads: all methods may run concurrently; callbacks come one at a time for
// one call, on a thread of the channel's, and may block briefly: the next
// event is not read before the callback returns (that is the back-pressure).
#ifndef CONCLAVE_EXPERT_WORKERS_CLIENT_H_
#define CONCLAVE_EXPERT_WORKERS_CLIENT_H_

#include <absl/time/time.h>

#include <functional>
#include <memory>

#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "conclave/v1/worker.pb.h"

namespace grpc {
class Channel;
}

namespace conclave {

// A running stream. Destroying it cancels it and waits for on_done.
class StreamCall {
 public:
  virtual ~StreamCall() = default;
  // May be called at any time, from any thread, also from a callback.
  virtual void Cancel() = 0;
  // Asks for no more events until Resume(); a few may still come. From any
  // thread, also from a callback. A stream that cannot pause ignores both, so
  // the reader's queue needs a bound of its own.
  virtual void Pause() {}
  virtual void Resume() {}
};

struct StreamCallbacks {
  std::function<void(const v1::GenerateEvent& event)> on_event;
  // Once, last; nothing is called afterwards.
  std::function<void(absl::Status status)> on_done;
};

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
