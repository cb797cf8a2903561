// The workers of the snapshot: one channel for each address, and what each
// last said of itself (which models are resident, how busy it is).
//
// Threads: all methods may run concurrently.
#ifndef CONCLAVE_ROUTER_SERVICE_DISPATCH_WORKER_DIRECTORY_H_
#define CONCLAVE_ROUTER_SERVICE_DISPATCH_WORKER_DIRECTORY_H_

#include <absl/time/time.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "expert_workers/client.h"
#include "registry/expert_spec.h"

namespace conclave::router {

class WorkerDirectory {
 public:
  // Opens a channel to HOST:PORT; given, so that in-process workers and fakes
  // are reached alike.
  using Connect = std::function<std::shared_ptr<workers::WorkerClient>(
      const std::string& address)>;
  explicit WorkerDirectory(Connect connect) : connect_(std::move(connect)) {}

  std::shared_ptr<workers::WorkerClient> Client(const std::string& address);

  // The workers that can run this model, best first: those where it is
  // resident, then the less busy, then by name. `pinned` (a worker's name, or
  // empty for any) is a condition.
  std::vector<registry::WorkerRecord> Choose(const registry::Snapshot& snapshot,
                                             const registry::ModelRecord& model,
                                             const std::string& pinned) const;

  // Asks every worker of the snapshot for its stats, and forgets workers that
  // are gone. Blocks for up to `timeout` for each worker that is silent.
  void Refresh(const registry::Snapshot& snapshot, absl::Duration timeout);

 private:
  struct Known {
    std::set<std::string> resident;  // version ids
    int64_t busy = 0;                // requests running and waiting
  };
  const Connect connect_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<workers::WorkerClient>> clients_;
  std::map<std::string, Known> known_;  // by address
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_DISPATCH_WORKER_DIRECTORY_H_
