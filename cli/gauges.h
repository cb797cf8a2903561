// The worker's figures for /metrics.
#ifndef CONCLAVE_CLI_GAUGES_H_
#define CONCLAVE_CLI_GAUGES_H_

#include <vector>

#include "expert_workers/model_host.h"
#include "router_service/gateway/metrics.h"

namespace conclave::cli {

// Threads: Get may run concurrently.
class WorkerGauges {
 public:
  explicit WorkerGauges(const workers::ModelHost* host) : host_(host) {}

  std::vector<gateway::ModelGauges> Get() const {
    std::vector<gateway::ModelGauges> gauges;
    const v1::WorkerStats stats = host_->Stats();
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
      gauges.push_back(std::move(row));
    }
    return gauges;
  }

 private:
  const workers::ModelHost* const host_;
};

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_GAUGES_H_
