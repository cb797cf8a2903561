// Which sequences compute in the next step, and how many tokens of each.
//
//   Add -> waiting -> running -> Remove
//             ^----------'  preempted: out of pages; recomputed later
//
// First come, first served: by (arrival, index). A sequence is admitted when
// pages for all its tokens so far are there; it grows page by page. When pages
// run out the youngest running sequence gives up all of its own and waits
// again, its tokens kept; the oldest therefore always proceeds, and every
// admitted sequence ends, as long as each would fit alone. Recomputing gives
// the same bits.
//
// A step holds one token of every sequence that generates, and prompt tokens
// up to a budget, smaller while others generate, so that a long prompt does
// not freeze a running answer.
//
// Threads: none; the engine's own.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_SCHEDULER_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_SCHEDULER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "expert_workers/engine/kv_cache.h"

namespace conclave::engine {

struct Sequence {
  uint64_t arrival = 0;  // the request's ticket: smaller came earlier
  int32_t index = 0;     // which of the request's answers
  std::vector<int32_t> tokens;  // prompt, then what was generated
  int64_t computed = 0;         // tokens whose keys and values are cached
  PageTable pages;
  int64_t preemptions = 0;

  int64_t uncomputed() const {
    return static_cast<int64_t>(tokens.size()) - computed;
  }
  std::pair<uint64_t, int32_t> key() const { return {arrival, index}; }
};

// `count` tokens of `sequence`, from position `first`. When they reach the
// sequence's end, the last one's logits choose the next token.
struct Work {
  Sequence* sequence = nullptr;
  int64_t first = 0;
  int64_t count = 0;

  bool reaches_end() const {
    return first + count == static_cast<int64_t>(sequence->tokens.size());
  }
};

struct SchedulerOptions {
  int64_t max_running = 16;
  int64_t prefill_tokens = 256;          // a step's, when nobody generates
  int64_t prefill_tokens_shared = 32;    // a step's, while others generate
};

class Scheduler {
 public:
  Scheduler(const SchedulerOptions& options, KvCache* cache);

  // The sequence stays the caller's, and alive until Remove.
  void Add(Sequence* sequence);
  // Adds `child`, whose first computed tokens are those of `parent`, which
  // runs: it runs beside it on shared pages, or waits when there is no room.
  void AddFork(const Sequence& parent, int64_t shared_tokens, Sequence* child);
  // Frees its pages now. A sequence that is not here is ignored.
  void Remove(Sequence* sequence);

  // Admits what fits, then plans one step, generating sequences first. Every
  // position in the plan is writable. Empty only when nothing is here.
  std::vector<Work> Plan();
  // The work was computed.
  void Commit(const std::vector<Work>& plan);

  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t num_waiting() const { return static_cast<int64_t>(waiting_.size()); }

 private:
  void Admit();
  // Makes the next position of running_[i] writable, preempting from the
  // young end. False when it had to preempt running_[i] itself.
  bool MakeRoom(size_t i);

  const SchedulerOptions options_;
  KvCache* const cache_;
  // Both sorted by key.
  std::vector<Sequence*> running_;
  std::vector<Sequence*> waiting_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_SCHEDULER_H_
