#include "kernels/gate/routing_plan.h"

#include <algorithm>

namespace conclave::kernels {

void LayOut(std::span<const Assignment> chosen, int64_t num_virtual,
            std::span<const uint8_t> counted, RoutingPlan* plan) {
  const size_t num_rows = chosen.size();
  const size_t num_tokens = counted.size();
  const size_t v = static_cast<size_t>(num_virtual);
  plan->tok.resize(num_rows);
  plan->wt.resize(num_rows);
  plan->aidx.resize(num_rows);
  plan->toff.assign(num_tokens + 1, 0);
  RoutingStats& stats = plan->stats;
  stats.load.assign(v, 0);
  for (const Assignment& a : chosen) {
    ++stats.load[static_cast<size_t>(a.expert)];
    ++plan->toff[static_cast<size_t>(a.token) + 1];
  }
  stats.experts_per_token.clear();
  for (size_t t = 0; t < num_tokens; ++t) {
    const auto n = static_cast<size_t>(plan->toff[t + 1]);
    if (counted[t] != 0) {
      if (stats.experts_per_token.size() <= n) {
        stats.experts_per_token.resize(n + 1);
      }
      ++stats.experts_per_token[n];
    }
    plan->toff[t + 1] += plan->toff[t];
  }
  // off[e + 1] is where e's next row goes, and ends as where e + 1 begins.
  plan->off.assign(v + 1, 0);
  int64_t begin = 0;
  for (size_t e = 0; e < v; ++e) {
    plan->off[e + 1] = begin;
    begin += stats.load[e];
  }
  for (size_t i = 0; i < num_rows; ++i) {
    const Assignment& a = chosen[i];
    const int64_t row = plan->off[static_cast<size_t>(a.expert) + 1]++;
    plan->tok[static_cast<size_t>(row)] = a.token;
    plan->wt[static_cast<size_t>(row)] = a.weight;
    plan->aidx[i] = static_cast<int32_t>(row);
  }
}

}  // namespace conclave::kernels
