// Gets one answer out of an ordered list of experts.
//
//   candidate -> breaker -> target -> first token -> the rest -> done
//        ^______ failed ______|  ^ here the choice is final
//
// Before the first token a failure is recorded ("expert: CODE message") and
// the next candidate tried; `started` is held back until then, so that it
// names who answers. After it, a failure ends the stream with its status. The
// caller's own mistakes (INVALID_ARGUMENT, OUT_OF_RANGE) are never tried
// elsewhere.
//
// A target that hangs fails too: one that gives no first token in time makes
// room for the next candidate, one that falls silent later ends the stream
// with DEADLINE_EXCEEDED. While the reader is paused nobody is late.
//
// Threads: all methods may run concurrently. Callbacks come one at a time, on
// the target's threads or, when nothing can be tried, inside Generate.
#ifndef CONCLAVE_ROUTER_SERVICE_DISPATCH_DISPATCHER_H_
#define CONCLAVE_ROUTER_SERVICE_DISPATCH_DISPATCHER_H_

#include <absl/time/time.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "conclave/v1/router.pb.h"
#include "conclave/v1/worker.pb.h"
#include "expert_workers/client.h"
#include "registry/expert_spec.h"
#include "router_service/dispatch/circuit_breaker.h"
#include "router_service/dispatch/in_flight.h"
#include "router_service/dispatch/target.h"
#include "router_service/dispatch/watchdog.h"

namespace conclave::router {

struct DispatchOptions {
  // Targets asked for one request; a request must not go round the house.
  int max_attempts = 5;
  // For each target, its queue and the reading of the prompt included: a long
  // prompt on a busy machine takes minutes and is no reason to give up.
  absl::Duration first_token_timeout = absl::Minutes(5);
  // From one event of an answer to the next.
  absl::Duration token_timeout = absl::Minutes(1);
  BreakerOptions breaker;
};

struct DispatchRequest {
  v1::WorkerGenerateRequest request;
  std::vector<std::string> experts;  // best first
  std::shared_ptr<const registry::Snapshot> snapshot;
  v1::Decision decision;  // shown in `started`
  absl::Time deadline = absl::InfiniteFuture();
  InFlight::Ticket ticket;
};

struct DispatchCallbacks {
  std::function<void(const v1::GenerateEvent& event)> on_event;
  // Once, last.
  std::function<void(absl::Status status, v1::Outcome outcome)> on_done;
};

class Dispatcher {
 public:
  // Borrows both.
  Dispatcher(TargetResolver* resolver, Clock* clock,
             DispatchOptions options = {});

  // Destroying the call cancels it and waits for on_done: never destroy it
  // inside one of its callbacks. Pause and Resume go to the target.
  std::unique_ptr<StreamCall> Generate(DispatchRequest request,
                                       DispatchCallbacks callbacks);

  // Blocks. Candidates are tried as above; each has first_token_timeout.
  absl::StatusOr<v1::EmbedResponse> Embed(
      const v1::EmbedRequest& request, const std::vector<std::string>& experts,
      const registry::Snapshot& snapshot, absl::Time deadline);

  CircuitBreaker& breaker() { return breaker_; }

 private:
  friend class DispatchCall;
  TargetResolver* const resolver_;
  Clock* const clock_;
  const DispatchOptions options_;
  CircuitBreaker breaker_;
  Watchdog watchdog_;
};

// True when another expert may do better: not the caller's mistake, not a
// cancellation.
bool MayRetry(const absl::Status& status);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_DISPATCH_DISPATCHER_H_
