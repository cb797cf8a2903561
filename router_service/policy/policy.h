// From a request to a decision: routing, generating and explaining are this one
// code path.
//
//   named expert ("model": NAME) -> tier "bypass", nothing is read
//   else read the text: n-grams; the sentence encoder too when they are unsure
//        (< sure_enough), the text looks new (> novel_enough), or samples of
//        the category are few
//     -> posterior over categories; `general` gets the probability that the
//        text is like nothing registered
//     -> category = the most probable; when that is less than `unsure_below`,
//        `general` (if somebody serves it)
//     -> experts by quality less cost (select/selection.h)
//
// Threads: all methods may run concurrently.
#ifndef CONCLAVE_ROUTER_SERVICE_POLICY_POLICY_H_
#define CONCLAVE_ROUTER_SERVICE_POLICY_POLICY_H_

#include <absl/time/time.h>

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "conclave/v1/router.pb.h"
#include "registry/client.h"
#include "router_service/classify/live_classifier.h"
#include "router_service/select/selection.h"

namespace conclave::router {

struct PolicyOptions {
  SelectOptions select;
  // Below this probability the category is not trusted: `general` answers.
  double unsure_below = 0.4;
  // When the encoder is asked: the fast tier's best is below `sure_enough`, its
  // novelty above `novel_enough`, or the category has fewer samples than
  // `few_samples`. On CLINC150 that is 28 % of requests at .2 points less than
  // always asking.
  double sure_enough = 0.9;
  double novel_enough = 0.8;
  uint32_t few_samples = 20;
  // Longer texts show the encoder their two ends; the n-grams read all.
  size_t max_encoder_bytes = 1024;
  // Weighted parts of a chat below this share are not worth an encoder's time.
  double min_encoder_weight = 0.2;
};

struct PolicyDependencies {
  Clock* clock = &Clock::Real();
  EmbedFn embed;                                // may be null: fast tier only
  const QualityEstimates* estimates = nullptr;  // outlives the policy
  // Uniform in [0, 1), called from many threads; needed with exploration.
  std::function<double()> random;
};

struct Routing {
  v1::Decision decision;
  // Whom to try, in order; the first is decision.expert. Never empty.
  std::vector<std::string> candidates;
};

class RoutingPolicy {
 public:
  explicit RoutingPolicy(PolicyOptions options = {},
                         PolicyDependencies dependencies = {});

  // Learns from the snapshot's samples, off the caller's thread. Cheap when no
  // sample changed: call it with every snapshot.
  void OnSnapshot(std::shared_ptr<const registry::Snapshot> snapshot);

  // `request_id` of the request is copied.
  //   NOT_FOUND, UNAVAILABLE  a named expert that is unknown, or not serving
  //   FAILED_PRECONDITION     nobody is registered
  //   UNAVAILABLE             experts are registered, none is serving
  //   INVALID_ARGUMENT        no text to route by
  absl::StatusOr<Routing> Decide(const v1::GenerateRequest& request,
                                 const registry::Snapshot& snapshot) const;
  absl::StatusOr<Routing> Decide(const v1::RouteRequest& request,
                                 const registry::Snapshot& snapshot) const;

  // Until the newest OnSnapshot is served; false when the time is up.
  bool WaitForFastTier(absl::Duration timeout) const;
  bool WaitForAllTiers(absl::Duration timeout) const;

  const LiveClassifier& live() const { return live_; }

 private:
  struct Query;
  struct Verdict;
  absl::StatusOr<Routing> Decide(const Query& query,
                                 const registry::Snapshot& snapshot) const;
  Routing Bypass(const Query& query, const registry::Snapshot& snapshot,
                 const std::string& expert) const;
  Verdict Judge(const Query& query, const registry::Snapshot& snapshot,
                std::span<const ExpertView> available) const;
  Reading Read(const Classifier& classifier, const Query& query,
               std::string* note) const;
  absl::StatusOr<std::vector<float>> Embed(const Query& query) const;

  const PolicyOptions options_;
  const PolicyDependencies dependencies_;
  const std::string version_;  // hash of the options
  std::atomic<uint64_t> fingerprint_{0};
  LiveClassifier live_;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_POLICY_POLICY_H_
