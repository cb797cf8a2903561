// A router that answers by itself, from a small made-up vocabulary. Useful for
// testing whatever speaks to a router: it honours seeds, stops, lengths, n,
// logprobs, echo and token prompts, pauses, cancels at once, and fails on
// request.
//
// Tokens 0..255 are bytes; 256.. are words. A text prompt is tokenised into
// bytes. Experts: "chat" and "coder" (prompts with "code" in them go there).
// Other names make trouble: "busy" RESOURCE_EXHAUSTED, "down" UNAVAILABLE,
// "slow" waits 100 times longer between tokens, "broken" DATA_LOSS after
// three tokens, "leaky" INTERNAL with a path in the message.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_FAKE_ROUTER_CLIENT_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_FAKE_ROUTER_CLIENT_H_

#include <absl/time/time.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "router_service/client.h"

namespace conclave::router {

struct FakeRouterOptions {
  absl::Duration token_delay = absl::ZeroDuration();
  int64_t context = 4096;  // tokens
  int pad_bytes = 0;       // makes every token longer, to fill buffers
};

// Threads: all methods may run concurrently.
class FakeRouterClient final : public RouterClient {
 public:
  explicit FakeRouterClient(FakeRouterOptions options = {});

  std::unique_ptr<StreamCall> Generate(const v1::GenerateRequest& request,
                                       absl::Time deadline,
                                       StreamCallbacks callbacks) override;
  absl::StatusOr<v1::Decision> Route(const v1::RouteRequest& request,
                                     absl::Time deadline) override;
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          absl::Time deadline) override;
  absl::StatusOr<v1::ExplainResponse> Explain(const v1::ExplainRequest& request,
                                              absl::Time deadline) override;
  absl::StatusOr<v1::FeedbackResponse> Feedback(
      const v1::FeedbackRequest& request, absl::Time deadline) override;

  // Streams that run now, and that were cancelled so far.
  int running() const { return state_->running; }
  int cancelled() const { return state_->cancelled; }
  // Text sent by all streams so far.
  int64_t sent_bytes() const { return state_->sent_bytes; }
  // The last generation request.
  v1::GenerateRequest last_request() const;

 private:
  struct State {
    std::atomic<int> running{0};
    std::atomic<int> cancelled{0};
    std::atomic<int64_t> sent_bytes{0};
    mutable std::mutex mutex;
    v1::GenerateRequest last_request;
    std::map<std::string, v1::ExplainResponse> decisions;
  };
  class Call;

  absl::StatusOr<v1::Decision> Decide(const std::string& request_id,
                                      const std::string& model,
                                      const std::string& text) const;

  const FakeRouterOptions options_;
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_FAKE_ROUTER_CLIENT_H_
