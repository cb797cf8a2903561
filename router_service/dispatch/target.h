// Something that can answer: a model on a worker, an endpoint, a prompt over
// either. The dispatcher knows nothing else of them, so that tests bring
// their own.
#ifndef CONCLAVE_ROUTER_SERVICE_DISPATCH_TARGET_H_
#define CONCLAVE_ROUTER_SERVICE_DISPATCH_TARGET_H_

#include <absl/time/time.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "conclave/v1/worker.pb.h"
#include "expert_workers/client.h"
#include "registry/expert_spec.h"

namespace conclave::router {

// Threads: all methods may run concurrently.
class Target {
 public:
  virtual ~Target() = default;
  // `request.model` is the target's to fill in. Must not block; callbacks as
  // in expert_workers/client.h, and on_done may come before it returns.
  virtual std::unique_ptr<StreamCall> Generate(
      const v1::WorkerGenerateRequest& request, absl::Time deadline,
      StreamCallbacks callbacks) = 0;
  // Blocks.
  virtual absl::StatusOr<v1::EmbedResponse> Embed(
      const v1::EmbedRequest& request, absl::Time deadline) = 0;
};

struct ResolvedTarget {
  // What a breaker counts failures for: "worker HOST:PORT MODEL" or
  // "endpoint URL MODEL".
  std::string key;
  std::shared_ptr<Target> target;
};

// Everything that can answer for one expert, best first.
struct ResolvedExpert {
  std::vector<ResolvedTarget> targets;  // not empty
  std::set<std::string> uses;           // the expert and its bases
};

class TargetResolver {
 public:
  virtual ~TargetResolver() = default;
  // `name` is an expert's, else a model's.
  //   NOT_FOUND    neither is in the snapshot
  //   UNAVAILABLE  no worker with its model is there now
  virtual absl::StatusOr<ResolvedExpert> Resolve(
      const registry::Snapshot& snapshot, const std::string& name) = 0;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_DISPATCH_TARGET_H_
