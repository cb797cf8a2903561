// Which sequences compute in the next step, and how many tokens of each.
//
//   Add -> waiting -> running -> Remove
//             ^----------'  preempted: computed again later, as far as its
//                           pages are not in the prefix cache any more
//
// Among tenants, one with nothing running comes next, then whoever was served
// least (tenants.h); a tenant's own requests come in order of (arrival, index).
// A sequence is admitted when pages for all its tokens so far can be reserved;
// it grows page by page.
//
// Two things preempt, both the youngest sequence of the tenant with most
// running:
//   - a sequence that generates needs a page and none is left. The oldest of
//     all always proceeds, so every admitted sequence ends, as long as each
//     would fit alone.
//   - a tenant with nothing running waits, and another has two or more. So
//     nobody waits for the end of another's long answers. A tenant's last
//     running sequence is never taken for this.
//
// A step holds one token of every sequence that generates, then prompt tokens
// up to a budget: least served tenant first; of its prompts, half of the
// budget goes to the oldest and half to the one nearest its end, so that a
// short prompt passes a long one without stopping it. Where there are no
// prompts, drafts are computed that need nobody else's page.
//
// Threads: none; the engine's own.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_SCHEDULER_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_SCHEDULER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "expert_workers/engine/kv_cache.h"
#include "expert_workers/engine/prefix_cache.h"
#include "expert_workers/engine/sequence.h"
#include "expert_workers/engine/tenants.h"

namespace conclave::engine {

// `count` tokens of `sequence`, from position `first`. When they reach the
// sequence's end, the last one's logits choose the next token.
struct Work {
  Sequence* sequence = nullptr;
  int64_t first = 0;
  int64_t count = 0;
  // So many of the sequence's draft are computed behind its end.
  int64_t guesses = 0;

  bool reaches_end() const { return first + count == sequence->size(); }
};

// A step's prompt tokens beside `generating` sequences; more than 0 when there
// are none of those.
using PromptBudget = std::function<int64_t(int64_t generating)>;

class Scheduler {
 public:
  // `prefixes`: nullptr remembers nothing.
  Scheduler(int64_t max_running, PromptBudget budget, KvCache* cache,
            PrefixCache* prefixes);

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
  // The work was computed; of guesses, nothing is known yet.
  void Commit(const std::vector<Work>& plan);
  // The first `count` guesses of the last step were right and are tokens now.
  void Accept(Sequence* sequence, int64_t count);

  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t num_waiting() const { return tenants_.num_waiting(); }
  int64_t preemptions() const { return preemptions_; }  // since it was made

 private:
  void Admit();
  bool TryStart(Sequence* sequence);
  // Gives `sequence` what is known of it and pages for the rest.
  bool TakePages(Sequence* sequence, bool whole_pages);
  // Whether `sequence` would fit if every tenant kept one running sequence.
  bool WouldFitBesideOldest(const Sequence& sequence);
  // The youngest sequence of the tenant with most running, if that runs at
  // least `least`; among equals the youngest of all.
  Sequence* Victim(size_t least);
  void Preempt(Sequence* sequence);
  void GiveUpPages(Sequence* sequence);
  // Makes the next position of `sequence` writable. False when it had to
  // preempt `sequence` itself.
  bool MakeRoom(Sequence* sequence);
  void PlanPrompts(int64_t budget, std::vector<Work>& plan);

  const int64_t max_running_;
  const PromptBudget budget_;
  KvCache* const cache_;
  PrefixCache* const prefixes_;
  Tenants tenants_;
  std::vector<Sequence*> running_;  // by key
  int64_t preemptions_ = 0;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_SCHEDULER_H_
