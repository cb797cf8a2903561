#include "router_service/gateway/metrics.h"

#include <prometheus/text_serializer.h>

#include <string_view>
#include <utility>

namespace conclave::gateway {
namespace {

using prometheus::Histogram;
using prometheus::MetricFamily;

// vLLM's buckets, so that its dashboards read the same.
const Histogram::BucketBoundaries kTtftBuckets = {
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
    1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640};
const Histogram::BucketBoundaries kTokenBuckets = {
    0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4,
    0.5,   0.75,  1,    2.5,   5,    7.5,   10,  20,   40,  80};
const Histogram::BucketBoundaries kE2eBuckets = {
    0.05, 0.1, 0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,
    15,   20,  30,  40,  50,  60, 120, 240, 480, 960, 1920};
const Histogram::BucketBoundaries kRouterBuckets = {
    0.00005, 0.0001, 0.0002, 0.0003, 0.0005, 0.001,
    0.002,   0.005,  0.01,   0.025,  0.05,   0.1};

struct Alias {
  std::string_view ours;
  const char* vllm;
};
constexpr Alias kAliases[] = {
    {"conclave_num_requests_running", "vllm:num_requests_running"},
    {"conclave_num_requests_waiting", "vllm:num_requests_waiting"},
    {"conclave_kv_cache_usage_perc", "vllm:kv_cache_usage_perc"},
    {"conclave_time_to_first_token_seconds",
     "vllm:time_to_first_token_seconds"},
    {"conclave_inter_token_latency_seconds",
     "vllm:inter_token_latency_seconds"},
    // The older name of the same figure.
    {"conclave_inter_token_latency_seconds",
     "vllm:time_per_output_token_seconds"},
    {"conclave_e2e_request_latency_seconds",
     "vllm:e2e_request_latency_seconds"},
    {"conclave_prompt_tokens_total", "vllm:prompt_tokens_total"},
    {"conclave_generation_tokens_total", "vllm:generation_tokens_total"},
    {"conclave_request_success_total", "vllm:request_success_total"},
    {"conclave_preemptions_total", "vllm:num_preemptions_total"},
    {"conclave_prefix_cache_wanted_tokens_total",
     "vllm:prefix_cache_queries_total"},
    {"conclave_prefix_cache_saved_tokens_total",
     "vllm:prefix_cache_hits_total"},
    {"conclave_draft_tokens_total", "vllm:spec_decode_num_draft_tokens_total"},
    {"conclave_accepted_tokens_total",
     "vllm:spec_decode_num_accepted_tokens_total"},
};

prometheus::Family<Histogram>& AddHistogram(prometheus::Registry& registry,
                                            const char* name,
                                            const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

prometheus::Family<prometheus::Counter>& AddCounter(
    prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}

// One figure of every model: a gauge, or a counter by its name.
struct ModelFigure {
  const char* name;
  const char* help;
  double (*value)(const ModelGauges&);
};

double Double(int64_t count) { return static_cast<double>(count); }

constexpr ModelFigure kModelFigures[] = {
    {"conclave_num_requests_running", "Requests being generated.",
     [](const ModelGauges& m) { return Double(m.running); }},
    {"conclave_num_requests_waiting", "Requests in a worker's queue.",
     [](const ModelGauges& m) { return Double(m.waiting); }},
    {"conclave_kv_cache_usage_perc", "KV pages in use, 0 to 1.",
     [](const ModelGauges& m) { return m.kv_cache_usage; }},
    {"conclave_preemptions_total",
     "Sequences that gave way to others and came back.",
     [](const ModelGauges& m) { return Double(m.preemptions); }},
    {"conclave_prefix_cache_pages",
     "KV pages that the prefix cache keeps, in use or not.",
     [](const ModelGauges& m) { return Double(m.prefix_pages); }},
    {"conclave_prefix_cache_hits_total",
     "Sequences whose beginning was in the prefix cache.",
     [](const ModelGauges& m) { return Double(m.prefix_hits); }},
    {"conclave_prefix_cache_wanted_tokens_total",
     "Tokens looked up in the prefix cache.",
     [](const ModelGauges& m) { return Double(m.prefix_tokens_wanted); }},
    {"conclave_prefix_cache_saved_tokens_total",
     "Tokens that the prefix cache had, which were not computed.",
     [](const ModelGauges& m) { return Double(m.prefix_tokens_saved); }},
    {"conclave_draft_tokens_total",
     "Tokens guessed ahead and checked in one step.",
     [](const ModelGauges& m) { return Double(m.draft_tokens); }},
    {"conclave_accepted_tokens_total", "Guessed tokens that were right.",
     [](const ModelGauges& m) { return Double(m.accepted_tokens); }},
    {"conclave_expert_cache_hits_total",
     "Experts of a mixture larger than its budget that were in memory.",
     [](const ModelGauges& m) { return Double(m.expert_hits); }},
    {"conclave_expert_cache_reads_total",
     "Experts of a mixture larger than its budget that were read from disk.",
     [](const ModelGauges& m) { return Double(m.expert_reads); }},
    {"conclave_model_weights_bytes", "Weights of the model in memory.",
     [](const ModelGauges& m) { return Double(m.weight_bytes); }},
};

// One figure of the worker.
struct WorkerFigure {
  const char* name;
  const char* help;
  int64_t WorkerFigures::*value;
};

constexpr WorkerFigure kWorkerFigures[] = {
    {"conclave_weights_budget_bytes", "Memory that weights may take.",
     &WorkerFigures::weights_budget},
    {"conclave_weights_resident_bytes", "Memory that weights take.",
     &WorkerFigures::weights_resident},
    {"conclave_kv_budget_bytes", "Memory that KV caches may take.",
     &WorkerFigures::kv_budget},
    {"conclave_process_resident_bytes",
     "Memory that the whole process takes, all else included.",
     &WorkerFigures::process_resident},
};

MetricFamily FamilyOf(const ModelFigure& figure,
                      const std::vector<ModelGauges>& models) {
  const bool counts = std::string_view(figure.name).ends_with("_total");
  MetricFamily family;
  family.name = figure.name;
  family.help = figure.help;
  family.type =
      counts ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
  for (const ModelGauges& model : models) {
    prometheus::ClientMetric metric;
    metric.label.push_back({"model_name", model.model});
    (counts ? metric.counter.value : metric.gauge.value) = figure.value(model);
    family.metric.push_back(std::move(metric));
  }
  return family;
}

MetricFamily FamilyOf(const WorkerFigure& figure, const WorkerFigures& worker) {
  MetricFamily family;
  family.name = figure.name;
  family.help = figure.help;
  family.type = prometheus::MetricType::Gauge;
  prometheus::ClientMetric metric;
  metric.gauge.value = Double(worker.*figure.value);
  family.metric.push_back(std::move(metric));
  return family;
}

double Seconds(int64_t nanos) { return static_cast<double>(nanos) * 1e-9; }

}  // namespace

Metrics::Metrics(GaugeSource gauges)
    : gauges_(std::move(gauges)),
      ttft_(AddHistogram(registry_, "conclave_time_to_first_token_seconds",
                         "From a request's arrival to its first token.")),
      inter_token_(AddHistogram(registry_,
                                "conclave_inter_token_latency_seconds",
                                "Between two tokens of one answer.")),
      e2e_(AddHistogram(registry_, "conclave_e2e_request_latency_seconds",
                        "From a request's arrival to its end.")),
      prompt_tokens_(AddCounter(registry_, "conclave_prompt_tokens_total",
                                "Prompt tokens of finished requests.")),
      generation_tokens_(AddCounter(
          registry_, "conclave_generation_tokens_total", "Tokens generated.")),
      success_(AddCounter(registry_, "conclave_request_success_total",
                          "Answers, by how they ended.")),
      errors_(AddCounter(registry_, "conclave_request_errors_total",
                         "Generation requests that failed, by code.")),
      http_(AddCounter(registry_, "conclave_http_requests_total",
                       "HTTP requests, by route and status.")),
      decisions_(AddCounter(registry_, "conclave_router_decisions_total",
                            "Routing decisions, by expert, category and "
                            "tier.")),
      router_time_(AddHistogram(registry_, "conclave_router_decision_seconds",
                                "Time that a routing decision took.")
                       .Add({}, kRouterBuckets)),
      connections_(prometheus::BuildGauge()
                       .Name("conclave_http_connections")
                       .Help("Open HTTP connections.")
                       .Register(registry_)
                       .Add({})) {}

void Metrics::CountHttp(const std::string& route, int status) {
  http_.Add({{"route", route}, {"code", std::to_string(status)}}).Increment();
}

void Metrics::CountDecision(const v1::Decision& decision) {
  decisions_
      .Add({{"expert", decision.expert()},
            {"category", decision.category()},
            {"tier", decision.tier()}})
      .Increment();
  router_time_.Observe(static_cast<double>(decision.router_us()) * 1e-6);
}

void Metrics::SetConnections(int connections) { connections_.Set(connections); }

std::string Metrics::Text() {
  std::vector<MetricFamily> families = registry_.Collect();
  const WorkerFigures worker = gauges_ ? gauges_() : WorkerFigures();
  for (const ModelFigure& figure : kModelFigures) {
    families.push_back(FamilyOf(figure, worker.models));
  }
  for (const WorkerFigure& figure : kWorkerFigures) {
    families.push_back(FamilyOf(figure, worker));
  }
  for (const Alias& alias : kAliases) {
    for (size_t i = 0; i < families.size(); ++i) {
      if (families[i].name != alias.ours) continue;
      MetricFamily copy = families[i];
      copy.name = alias.vllm;
      families.push_back(std::move(copy));
      break;
    }
  }
  return prometheus::TextSerializer().Serialize(families);
}

RequestMetrics::RequestMetrics(Metrics& metrics, Clock& clock)
    : metrics_(metrics), clock_(clock), start_ns_(clock.MonotonicNanos()) {}

void RequestMetrics::OnEvent(const v1::GenerateEvent& event) {
  if (event.has_started()) {
    expert_ = event.started().expert();
    inter_token_ =
        &metrics_.inter_token_.Add({{"model_name", expert_}}, kTokenBuckets);
    if (event.started().has_decision()) {
      metrics_.CountDecision(event.started().decision());
    }
  }
  if (event.has_finished()) reasons_.push_back(event.finished().reason());
  if (event.has_usage()) {
    const auto& usage = event.usage();
    metrics_.prompt_tokens_.Add({{"model_name", expert_}})
        .Increment(static_cast<double>(usage.prompt_tokens()));
    metrics_.generation_tokens_.Add({{"model_name", expert_}})
        .Increment(static_cast<double>(usage.completion_tokens()));
  }
  if (!event.has_delta() || inter_token_ == nullptr) return;
  constexpr int kMaxAnswers = 8;
  const int index = event.delta().index();
  if (index < 0 || index >= kMaxAnswers) return;
  last_token_ns_.resize(kMaxAnswers);
  const int64_t now = clock_.MonotonicNanos();
  int64_t& last = last_token_ns_[static_cast<size_t>(index)];
  if (!any_token_) {
    any_token_ = true;
    metrics_.ttft_.Add({{"model_name", expert_}}, kTtftBuckets)
        .Observe(Seconds(now - start_ns_));
  } else if (last != 0) {
    inter_token_->Observe(Seconds(now - last));
  }
  last = now;
}

void RequestMetrics::OnDone(const std::string& code, bool gone) {
  if (gone) {
    metrics_.success_
        .Add({{"model_name", expert_}, {"finished_reason", "abort"}})
        .Increment();
    return;
  }
  if (code != "OK") {
    metrics_.errors_.Add({{"model_name", expert_}, {"code", code}}).Increment();
    return;
  }
  metrics_.e2e_.Add({{"model_name", expert_}}, kE2eBuckets)
      .Observe(Seconds(clock_.MonotonicNanos() - start_ns_));
  for (const std::string& reason : reasons_) {
    // An upstream may call its reasons anything; labels stay few.
    const bool known = reason == "stop" || reason == "length" ||
                       reason == "tool_calls" || reason == "content_filter";
    metrics_.success_
        .Add({{"model_name", expert_},
              {"finished_reason", known ? reason : "other"}})
        .Increment();
  }
}

}  // namespace conclave::gateway
