// Tokens on their way through the engine: what the scheduler plans, and whose
// pages the caches hold.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_SEQUENCE_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_SEQUENCE_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "expert_workers/engine/kv_cache.h"

namespace conclave::engine {

struct PrefixNode;

struct Sequence {
  std::string tenant;           // fixed; whose cached pages it may use
  uint64_t arrival = 0;         // the request's ticket: smaller came earlier
  int32_t index = 0;            // which of the request's answers
  std::vector<int32_t> tokens;  // prompt, then what was generated
  int64_t computed = 0;         // tokens whose keys and values are cached
  PageTable pages;
  int64_t preemptions = 0;
  // Guesses at the tokens that follow (speculation.h); a step may check them
  // beside the last token. Kept for one step.
  std::vector<int32_t> draft;
  // Only so many of the first tokens may come from the prefix cache: the rows
  // behind them are wanted (a prompt that is scored).
  int64_t reusable = std::numeric_limits<int64_t>::max();
  // Tokens that came from the prefix cache since it was admitted.
  int64_t reused = 0;

  // The prefix cache's: where in its tree the first `known_pages` pages end;
  // nullptr is the root.
  PrefixNode* known = nullptr;
  int64_t known_pages = 0;
  // The scheduler's.
  bool running = false;
  int64_t charged = 0;  // tokens whose computation the tenant was charged for

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  int64_t uncomputed() const { return size() - computed; }
  // At least one token is computed: its logits choose the next.
  int64_t reuse_limit() const { return std::min(reusable, size() - 1); }
  std::pair<uint64_t, int32_t> key() const { return {arrival, index}; }
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_SEQUENCE_H_
