// The OpenAI HTTP front. One route table; what is not in it is 404:
//
//   GET  /livez /readyz                 open
//   GET  /metrics                       scope metrics
//   GET  /v1/models, /v1/models/{id}    scope inference
//   POST /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/route
//   GET  /v1/decisions/{id}             scope feedback
//   POST /v1/feedback
//
// Without API keys it serves loopback only, and only requests that name a
// loopback host and send JSON as JSON: otherwise any web page that its user
// visits could call it (DNS rebinding, cross-site posts).
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_GATEWAY_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_GATEWAY_H_

#include <absl/time/time.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "registry/client.h"
#include "router_service/client.h"
#include "router_service/gateway/api_keys.h"
#include "router_service/gateway/http_server.h"
#include "router_service/gateway/metrics.h"

namespace conclave::gateway {

struct GatewayOptions {
  HttpOptions http;
  std::optional<ApiKeys> keys;  // needed unless http.address is loopback
  int blocking_threads = 4;     // for route, embeddings, decisions, feedback
  size_t blocking_queue = 256;  // then 503
  int max_generations = 2048;   // running at once; then 429
  absl::Duration generation_timeout = absl::Minutes(10);
  absl::Duration call_timeout = absl::Seconds(30);
};

// Borrowed; all outlive the gateway.
struct GatewayDeps {
  router::RouterClient* router = nullptr;
  const registry::SnapshotSource* registry = nullptr;
  // Why this process cannot serve now; empty means ready. Called by /readyz
  // on a server thread: must not block.
  std::function<std::vector<std::string>()> not_ready;
  GaugeSource gauges;  // may be empty
  Clock* clock = &Clock::Real();
};

// Threads: all methods may run concurrently.
class Gateway {
 public:
  //   FAILED_PRECONDITION  not loopback, and no keys
  //   INVALID_ARGUMENT, UNAVAILABLE  as HttpServer::Start
  static absl::StatusOr<std::unique_ptr<Gateway>> Start(GatewayOptions options,
                                                        GatewayDeps deps);
  // Drains with no patience.
  virtual ~Gateway() = default;

  virtual int port() const = 0;
  virtual std::string address() const = 0;  // HOST:PORT in use
  // Running generations.
  virtual int active() const = 0;
  virtual int connections() const = 0;

  // For SIGTERM: /readyz turns 503, new connections are refused, running
  // responses end by themselves until `deadline`, then are cut off. True when
  // none was.
  virtual bool Drain(absl::Time deadline) = 0;
};

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_GATEWAY_H_
