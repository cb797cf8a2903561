// One generation request on its way: the router's stream in, HTTP out.
//
//   Run -> (Started) -> head sent | collected -> (Done) -> end | error
// A client that leaves cancels the call at once. The object lives until the
// call is done, and is released on the connection's thread: StreamCall may
// not be destroyed in its own callback.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_GENERATION_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_GENERATION_H_

#include <absl/time/time.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "router_service/client.h"
#include "router_service/gateway/http_message.h"
#include "router_service/gateway/metrics.h"
#include "router_service/gateway/openai_error.h"
#include "router_service/gateway/openai_request.h"
#include "router_service/gateway/openai_response.h"

namespace conclave::gateway {

// How many generations run. Threads: all methods may run concurrently.
class ActiveCount {
 public:
  // False when `limit` run already, or after Close.
  bool TryEnter(int limit);
  void Close();
  void Leave();
  int value() const;
  void WaitForZero();

 private:
  mutable std::mutex mutex_;
  std::condition_variable zero_;
  int value_ = 0;
  bool closed_ = false;
};

struct GenerationDeps {
  router::RouterClient* router;
  Metrics* metrics;
  Clock* clock;
  std::shared_ptr<ActiveCount> active;
  absl::Duration timeout;
  // The error that the caller sees for one of the router's.
  std::function<absl::Status(const absl::Status&)> explain_error;
  // Told once, with the HTTP status that was sent.
  std::function<void(int status)> count_http;
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // Called on the connection's thread. The caller has entered `deps.active`;
  // the generation leaves it when it is over.
  static void Run(const GenerationDeps& deps, GenerationRequest request,
                  std::shared_ptr<ResponseWriter> writer);
  Generation(const GenerationDeps& deps, GenerationRequest request,
             std::shared_ptr<ResponseWriter> writer);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

 private:
  void Start();
  void OnEvent(const v1::GenerateEvent& event);
  void OnDone(const absl::Status& status);
  absl::StatusOr<std::string> Rest(const absl::Status& status);
  HttpResponse Head() const;

  const GenerationDeps deps_;
  const GenerationRequest request_;
  const std::shared_ptr<ResponseWriter> writer_;
  RequestMetrics metrics_;
  AnswerStream stream_;
  AnswerBody body_;
  // From here: the call's callbacks, one at a time.
  bool started_ = false;
  v1::GenerateEvent::Started who_;
  // From here: the connection's thread.
  std::unique_ptr<StreamCall> call_;
  std::atomic<bool> gone_{false};
};

// The response for an error, with x-request-id and, where it helps,
// retry-after.
HttpResponse ErrorResponse(const ApiError& error,
                           const std::string& request_id);

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_GENERATION_H_
