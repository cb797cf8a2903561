// One HTTP POST to an endpoint, on its own strand: connect (or take an idle
// connection), send, read header and body. Knows nothing of models.
//
//   resolve -> connect -> TLS -> send -> header -> body -> done
//       \_________ Cancel, deadline, a phase's timeout ______/
//
// However it ends, on_done is called once and at once: what the network still
// holds is closed and forgotten behind it.
//
// Boost headers stay below this line; http_call.cc alone compiles Beast.
#ifndef CONCLAVE_EXPERT_WORKERS_UPSTREAM_HTTP_CALL_H_
#define CONCLAVE_EXPERT_WORKERS_UPSTREAM_HTTP_CALL_H_

#include <absl/time/time.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "expert_workers/upstream/client.h"
#include "expert_workers/upstream/url.h"

namespace conclave::upstream {

struct HttpCallRequest {
  Url url;           // with the full path
  std::string body;  // JSON
  std::string api_key;
  bool insecure = false;
  std::string accept;  // the media type that must come back
  absl::Time deadline = absl::InfiniteFuture();
};

// One at a time, on one of the engine's threads.
struct HttpCallbacks {
  // Bytes of a 200 answer's body. An error ends the call with it.
  std::function<absl::Status(std::string_view bytes)> on_body;
  // True once the caller needs no more bytes.
  std::function<bool()> is_complete;
  // Once, last. OK: the answer came to its proper end.
  std::function<void(absl::Status status)> on_done;
};

// Threads: any. Destroying it cancels, and waits for on_done to return
// (unless it is on_done that destroys it).
class HttpCall {
 public:
  virtual ~HttpCall() = default;
  virtual void Cancel() = 0;
  virtual void Pause() = 0;
  virtual void Resume() = 0;
};

// The threads, the idle connections and the certificates that calls share.
class HttpEngine {
 public:
  static absl::StatusOr<std::unique_ptr<HttpEngine>> Create(
      UpstreamOptions options);
  // Calls must be gone before.
  virtual ~HttpEngine() = default;
  virtual std::unique_ptr<HttpCall> Start(HttpCallRequest request,
                                          HttpCallbacks callbacks) = 0;
};

}  // namespace conclave::upstream

#endif  // CONCLAVE_EXPERT_WORKERS_UPSTREAM_HTTP_CALL_H_
