// The worker's figures for /metrics.
#ifndef CONCLAVE_CLI_GAUGES_H_
#define CONCLAVE_CLI_GAUGES_H_

#include <utility>

#include "expert_workers/model_host.h"
#include "router_service/gateway/metrics.h"

namespace conclave::cli {

// Threads: Get may run concurrently.
class WorkerGauges {
 public:
  explicit WorkerGauges(const workers::ModelHost* host) : host_(host) {}

  gateway::WorkerFigures Get() const {
    const v1::WorkerStats stats = host_->Stats();
    gateway::WorkerFigures figures;
    figures.weights_budget = stats.ram_budget_bytes();
    figures.kv_budget = stats.kv_budget_bytes();
    figures.weights_resident = stats.ram_resident_bytes();
    figures.process_resident = stats.process_resident_bytes();
    for (const auto& model : stats.models()) {
      gateway::ModelGauges row;
      row.model = model.name();
      row.running = model.running();
      row.waiting = model.waiting();
      if (model.kv_pages_total() > 0) {
        row.kv_cache_usage = static_cast<double>(model.kv_pages_used()) /
                             static_cast<double>(model.kv_pages_total());
      }
      row.preemptions = model.preemptions();
      row.prefix_pages = model.prefix_cache().pages();
      row.prefix_hits = model.prefix_cache().hits();
      row.prefix_tokens_wanted = model.prefix_cache().tokens_wanted();
      row.prefix_tokens_saved = model.prefix_cache().tokens_saved();
      row.draft_tokens = model.speculation().draft_tokens();
      row.accepted_tokens = model.speculation().accepted_tokens();
      row.expert_hits = model.expert_cache().hits();
      row.expert_reads = model.expert_cache().reads();
      row.weight_bytes = model.resident_bytes();
      figures.models.push_back(std::move(row));
    }
    return figures;
  }

 private:
  const workers::ModelHost* const host_;
};

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_GAUGES_H_
