// What /metrics shows, with vLLM's semantics.
//
// Every figure has a `conclave_` name; those that vLLM has too are repeated
// under vLLM's own name ("vllm:num_requests_running" and so on), because the
// dashboards and the schedulers in front of model servers look for exactly
// those. The aliases cost nothing until a scrape copies them.
// Labels: model_name is the expert that answered, never text from a request,
// so that a stranger cannot create series.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_METRICS_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_METRICS_H_

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "conclave/v1/common.pb.h"

namespace conclave::gateway {

// One model's state now, as its worker reports it.
struct ModelGauges {
  std::string model;
  int64_t running = 0;  // requests
  int64_t waiting = 0;
  double kv_cache_usage = 0;  // 0..1
  int64_t prefix_pages = 0;   // kept by the prefix cache
  int64_t weight_bytes = 0;   // in memory
  // Counters since the worker's start.
  int64_t preemptions = 0;
  int64_t prefix_hits = 0;           // sequences that found a beginning
  int64_t prefix_tokens_wanted = 0;  // of all sequences
  int64_t prefix_tokens_saved = 0;   // of them, not computed
  int64_t draft_tokens = 0;          // guessed ahead
  int64_t accepted_tokens = 0;       // of them, right
  // Experts on demand: found in memory, read from the store.
  int64_t expert_hits = 0;
  int64_t expert_reads = 0;
};

// A worker's state now.
struct WorkerFigures {
  std::vector<ModelGauges> models;
  // Bytes: what was promised, and what is taken.
  int64_t weights_budget = 0;
  int64_t kv_budget = 0;
  int64_t weights_resident = 0;
  int64_t process_resident = 0;
};
// Called at every scrape; must not block.
using GaugeSource = std::function<WorkerFigures()>;

// Threads: all methods may run concurrently.
class Metrics {
 public:
  explicit Metrics(GaugeSource gauges);

  void CountHttp(const std::string& route, int status);
  void CountDecision(const v1::Decision& decision);
  void SetConnections(int connections);
  // Prometheus text format.
  std::string Text();

 private:
  friend class RequestMetrics;

  const GaugeSource gauges_;
  prometheus::Registry registry_;
  prometheus::Family<prometheus::Histogram>& ttft_;
  prometheus::Family<prometheus::Histogram>& inter_token_;
  prometheus::Family<prometheus::Histogram>& e2e_;
  prometheus::Family<prometheus::Counter>& prompt_tokens_;
  prometheus::Family<prometheus::Counter>& generation_tokens_;
  prometheus::Family<prometheus::Counter>& success_;
  prometheus::Family<prometheus::Counter>& errors_;
  prometheus::Family<prometheus::Counter>& http_;
  prometheus::Family<prometheus::Counter>& decisions_;
  prometheus::Histogram& router_time_;
  prometheus::Gauge& connections_;
};

// Follows one request: construct on arrival, feed it every event.
// Threads: one at a time.
class RequestMetrics {
 public:
  RequestMetrics(Metrics& metrics, Clock& clock);
  void OnEvent(const v1::GenerateEvent& event);
  // `code` is the status's name; `gone`: the client left first.
  void OnDone(const std::string& code, bool gone);

 private:
  Metrics& metrics_;
  Clock& clock_;
  const int64_t start_ns_;
  std::string expert_;
  prometheus::Histogram* inter_token_ = nullptr;
  std::vector<int64_t> last_token_ns_;  // for each answer; 0: none yet
  bool any_token_ = false;
  std::vector<std::string> reasons_;
};

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_METRICS_H_
