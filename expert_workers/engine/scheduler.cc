#include "expert_workers/engine/scheduler.h"

#include <algorithm>

#include "base/check.h"

namespace conclave::engine {
namespace {

void InsertByKey(std::vector<Sequence*>& list, Sequence* sequence) {
  const auto at = std::upper_bound(
      list.begin(), list.end(), sequence,
      [](const Sequence* a, const Sequence* b) { return a->key() < b->key(); });
  list.insert(at, sequence);
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, KvCache* cache)
    : options_(options), cache_(cache) {
  CHECK(options.max_running >= 1 && options.prefill_tokens >= 1 &&
        options.prefill_tokens_shared >= 1);
}

void Scheduler::Add(Sequence* sequence) {
  CHECK(!sequence->tokens.empty());
  CHECK(PagesForTokens(static_cast<int64_t>(sequence->tokens.size())) <=
            cache_->total_pages(),
        "{} tokens, {} pages", sequence->tokens.size(),
        cache_->total_pages());
  InsertByKey(waiting_, sequence);
}

void Scheduler::AddFork(const Sequence& parent, int64_t shared_tokens,
                        Sequence* child) {
  CHECK(shared_tokens <= parent.computed);
  if (num_running() >= options_.max_running) {
    InsertByKey(waiting_, child);
    return;
  }
  child->pages = cache_->Fork(parent.pages);
  child->computed = shared_tokens;
  InsertByKey(running_, child);
}

void Scheduler::Remove(Sequence* sequence) {
  std::erase(running_, sequence);
  std::erase(waiting_, sequence);
  cache_->Release(sequence->pages);
}

void Scheduler::Admit() {
  while (!waiting_.empty() && num_running() < options_.max_running) {
    Sequence* next = waiting_.front();
    const auto tokens = static_cast<int64_t>(next->tokens.size());
    // One page for each running sequence stays free: admitting into the very
    // last page would only preempt again at the next page border.
    if (!running_.empty() &&
        PagesForTokens(tokens) + num_running() > cache_->free_pages()) {
      return;
    }
    CHECK(cache_->PrepareWrite(next->pages, 0, tokens),
          "{} tokens do not fit {} pages", tokens, cache_->total_pages());
    waiting_.erase(waiting_.begin());
    InsertByKey(running_, next);
  }
}

bool Scheduler::MakeRoom(size_t i) {
  Sequence* sequence = running_[i];
  while (!cache_->PrepareWrite(sequence->pages, sequence->computed, 1)) {
    Sequence* youngest = running_.back();
    running_.pop_back();
    cache_->Release(youngest->pages);
    youngest->computed = 0;
    ++youngest->preemptions;
    InsertByKey(waiting_, youngest);
    if (youngest == sequence) return false;
  }
  return true;
}

std::vector<Work> Scheduler::Plan() {
  Admit();
  std::vector<Work> plan;
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence* sequence = running_[i];
    if (sequence->uncomputed() != 1) continue;
    if (!MakeRoom(i)) break;  // it was the last one
    plan.push_back({sequence, sequence->computed, 1});
  }
  int64_t budget = plan.empty() ? options_.prefill_tokens
                                : options_.prefill_tokens_shared;
  for (Sequence* sequence : running_) {
    if (sequence->uncomputed() <= 1) continue;
    if (budget == 0) break;
    const int64_t count = std::min(budget, sequence->uncomputed());
    // Its pages were taken at admission.
    plan.push_back({sequence, sequence->computed, count});
    budget -= count;
  }
  CHECK(!plan.empty() || (running_.empty() && waiting_.empty()),
        "{} running, {} waiting", running_.size(), waiting_.size());
  return plan;
}

void Scheduler::Commit(const std::vector<Work>& plan) {
  for (const Work& work : plan) work.sequence->computed += work.count;
}

}  // namespace conclave::engine
