// What the engine's benches share: a clock, medians, prompts.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_BENCH_PROMPTS_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_BENCH_PROMPTS_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "base/check.h"

namespace conclave::engine {

inline double Seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The smallest value that a part `p` of all does not exceed.
inline double Quantile(std::vector<double> values, double p) {
  CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const auto at = static_cast<size_t>(p * static_cast<double>(values.size()));
  return values[std::min(at, values.size() - 1)];
}

inline double Median(std::vector<double> values) {
  return Quantile(std::move(values), 0.5);
}

// Ordinary ids, the same for the same `serial`.
inline std::vector<int32_t> BenchPrompt(uint32_t serial, int64_t count,
                                        int64_t vocab) {
  std::vector<int32_t> prompt;
  uint32_t state = 12345u + serial;
  const auto limit = static_cast<uint32_t>(std::min<int64_t>(vocab, 30000));
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    prompt.push_back(static_cast<int32_t>((state >> 8) % limit));
  }
  return prompt;
}

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_BENCH_PROMPTS_H_
