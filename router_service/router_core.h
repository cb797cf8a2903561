// The router without its network: one request in, a decision and an answer
// out. service.* puts gRPC around it; `conclave serve` wires the parts.
//
//   id -> ticket -> snapshot -> decide -> journal -> dispatch -> journal
//
// Route, Generate and Explain show the same decision, made by one function.
//
// Also keeps house, on a thread of its own: learns where weights are, and
// removes draining experts once nothing uses them, then frees their models.
//
// Threads: all methods may run concurrently. Calls must be gone before their
// core.
#ifndef CONCLAVE_ROUTER_SERVICE_ROUTER_CORE_H_
#define CONCLAVE_ROUTER_SERVICE_ROUTER_CORE_H_

#include <absl/time/time.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/status.h"
#include "conclave/v1/router.pb.h"
#include "expert_workers/client.h"
#include "registry/client.h"
#include "router_service/dispatch/dispatcher.h"
#include "router_service/dispatch/in_flight.h"
#include "router_service/dispatch/worker_directory.h"
#include "router_service/journal/journal.h"
#include "router_service/policy/policy.h"

namespace conclave::router {

struct RouterCoreDependencies {
  // RoutingPolicy::Decide, or a test's own.
  std::function<absl::StatusOr<Routing>(const v1::GenerateRequest& request,
                                        const registry::Snapshot& snapshot)>
      decide;
  registry::SnapshotSource* registry = nullptr;
  TargetResolver* resolver = nullptr;
  Journal* journal = nullptr;
  Clock* clock = &Clock::Real();
  // May be null: then nothing is known of residency, and nothing unloaded.
  WorkerDirectory* workers = nullptr;
  // registry::RemoveDrained; may be null. Called by the housekeeper when a
  // draining expert is idle; may block for a moment.
  std::function<absl::Status(const registry::ExpertSpec& expert)>
      remove_drained;
};

struct RouterCoreOptions {
  DispatchOptions dispatch;
  // What a request without a deadline gets.
  absl::Duration default_deadline = absl::Minutes(30);
  absl::Duration housekeeping = absl::Seconds(1);
  size_t max_embed_inputs = 256;
};

class RouterCore {
 public:
  RouterCore(RouterCoreDependencies dependencies,
             RouterCoreOptions options = {});
  ~RouterCore();
  RouterCore(const RouterCore&) = delete;
  RouterCore& operator=(const RouterCore&) = delete;

  // Statuses as in router.proto.
  absl::StatusOr<v1::Decision> Route(const v1::RouteRequest& request);
  // Decides on the caller's thread, up to an encoder's time (25 ms); the
  // answer comes on the target's. Destroying the call cancels it and waits:
  // never destroy it inside one of its callbacks.
  std::unique_ptr<StreamCall> Generate(const v1::GenerateRequest& request,
                                       absl::Time deadline,
                                       StreamCallbacks callbacks);
  // The rest may block: on a worker, on the disk.
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          absl::Time deadline);
  absl::StatusOr<v1::ExplainResponse> Explain(
      const v1::ExplainRequest& request);
  absl::Status Feedback(const v1::FeedbackRequest& request);

  // Answers being made now, by expert.
  std::map<std::string, int64_t> InFlightCounts() const {
    return in_flight_.Counts();
  }
  Dispatcher& dispatcher() { return dispatcher_; }

 private:
  absl::StatusOr<std::string> RequestId(const std::string& given);
  absl::StatusOr<Routing> Decide(const v1::GenerateRequest& request,
                                 const registry::Snapshot& snapshot);
  std::string EmbedModel(const std::string& given,
                         const registry::Snapshot& snapshot) const;
  void KeepHouse();
  void RemoveIdle(const registry::Snapshot& snapshot);
  void ReleaseWeights(const registry::Snapshot& snapshot,
                      const registry::ExpertSpec& expert);

  const RouterCoreDependencies dependencies_;
  const RouterCoreOptions options_;
  const std::string id_prefix_;  // random: ids of two routers never meet
  std::atomic<uint64_t> next_id_{1};

  // The housekeeper's; before in_flight_, which wakes it.
  std::mutex mutex_;
  std::condition_variable wake_;
  bool closing_ = false;
  bool ended_ = false;     // a request ended since the last look
  bool draining_ = false;  // someone drains: only then ends matter
  // Expert and version -> the first revision that was seen with it draining.
  // Of a name alone, the next expert to bear it would inherit the revision.
  std::map<std::pair<std::string, uint64_t>, uint64_t> draining_since_;

  InFlight in_flight_;
  Dispatcher dispatcher_;
  std::thread housekeeper_;
};

// INVALID_ARGUMENT unless 1..128 of [A-Za-z0-9._:-].
absl::Status CheckRequestId(std::string_view id);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_ROUTER_CORE_H_
