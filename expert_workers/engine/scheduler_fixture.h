// Test help: sequences, budgets and steps without a model.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_SCHEDULER_FIXTURE_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_SCHEDULER_FIXTURE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "expert_workers/engine/scheduler.h"

namespace conclave::engine {

inline KvShape Shape() {
  return {.type = kernels::KvType::kF32,
          .num_layers = 1,
          .num_kv_heads = 1,
          .head_dim = 2};
}

inline std::unique_ptr<Sequence> MakeSequence(uint64_t arrival, size_t prompt,
                                              const std::string& tenant = {}) {
  auto sequence = std::make_unique<Sequence>();
  sequence->tenant = tenant;
  sequence->arrival = arrival;
  sequence->tokens.assign(prompt, 7);
  return sequence;
}

// So many prompt tokens alone, so many beside others.
inline PromptBudget Budget(int64_t alone, int64_t beside) {
  return [=](int64_t generating) { return generating == 0 ? alone : beside; };
}

// Plans, commits, and gives every sequence that reached its end a new token.
inline std::vector<Work> Step(Scheduler& scheduler) {
  std::vector<Work> plan = scheduler.Plan();
  scheduler.Commit(plan);
  for (const Work& work : plan) {
    if (work.sequence->uncomputed() == 0) work.sequence->tokens.push_back(1);
  }
  return plan;
}

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_SCHEDULER_FIXTURE_H_
