#include "expert_workers/engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace conclave::engine {
namespace {

// What a step's lone token of a sequence costs its tenant, in prompt tokens:
// its logits are as much work again.
constexpr int64_t kLoneTokenCost = 2;

}  // namespace

Scheduler::Scheduler(int64_t max_running, PromptBudget budget, KvCache* cache,
                     PrefixCache* prefixes)
    : max_running_(max_running),
      budget_(std::move(budget)),
      cache_(cache),
      prefixes_(prefixes) {
  CHECK(max_running >= 1, "{}", max_running);
}

void Scheduler::Add(Sequence* sequence) {
  CHECK(!sequence->tokens.empty());
  CHECK(PagesForTokens(sequence->size()) <= cache_->total_pages(),
        "{} tokens, {} pages", sequence->size(), cache_->total_pages());
  tenants_.EnterWaiting(sequence);
}

void Scheduler::AddFork(const Sequence& parent, int64_t shared_tokens,
                        Sequence* child) {
  CHECK(shared_tokens <= parent.computed);
  child->charged = shared_tokens;
  if (num_running() >= max_running_) {
    tenants_.EnterWaiting(child);
    return;
  }
  child->pages = cache_->Fork(parent.pages);
  child->computed = shared_tokens;
  child->known = parent.known;
  child->known_pages = parent.known_pages;
  child->running = true;
  tenants_.EnterRunning(child);
  InsertByKey(running_, child);
}

void Scheduler::Remove(Sequence* sequence) {
  if (std::exchange(sequence->running, false)) {
    std::erase(running_, sequence);
    GiveUpPages(sequence);
  }
  tenants_.Leave(sequence);
}

void Scheduler::GiveUpPages(Sequence* sequence) {
  if (prefixes_ != nullptr) {
    prefixes_->LearnTail(*sequence);
    prefixes_->Detach(*sequence);
  } else {
    cache_->Release(sequence->pages);
    sequence->computed = 0;
  }
}

void Scheduler::Preempt(Sequence* sequence) {
  sequence->running = false;
  std::erase(running_, sequence);
  GiveUpPages(sequence);
  ++sequence->preemptions;
  ++preemptions_;
  tenants_.Stop(sequence);
}

Sequence* Scheduler::Victim(size_t least) {
  Sequence* victim = nullptr;
  size_t most = 0;
  for (const Tenant* tenant : tenants_.Running()) {
    const size_t count = tenant->running.size();
    if (count < least || count < most) continue;
    Sequence* youngest = tenant->running.back();
    if (count > most || youngest->key() > victim->key()) victim = youngest;
    most = count;
  }
  return victim;
}

void Scheduler::Admit() {
  while (const Tenant* tenant = tenants_.NextWaiting()) {
    if (!TryStart(tenant->waiting.front())) return;
  }
}

bool Scheduler::TryStart(Sequence* sequence) {
  while (num_running() >= max_running_ ||
         (!TakePages(sequence, /*whole_pages=*/false) &&
          !TakePages(sequence, /*whole_pages=*/true))) {
    if (!tenants_.Of(*sequence).running.empty()) return false;
    if (!WouldFitBesideOldest(*sequence)) return false;
    Sequence* victim = Victim(/*least=*/2);
    if (victim == nullptr) return false;
    Preempt(victim);
  }
  sequence->running = true;
  tenants_.Start(sequence);
  InsertByKey(running_, sequence);
  return true;
}

bool Scheduler::TakePages(Sequence* sequence, bool whole_pages) {
  if (prefixes_ != nullptr) prefixes_->Attach(*sequence, whole_pages);
  const int64_t needed =
      PagesForTokens(sequence->size()) - sequence->known_pages;
  // One page for each running sequence stays free: admitting into the very
  // last page would only preempt again at the next page border.
  if (needed + num_running() > cache_->available_pages()) {
    if (prefixes_ != nullptr) prefixes_->Detach(*sequence);
    return false;
  }
  CHECK(cache_->Reserve(sequence->pages, needed));
  // Copies a page that matches in part, so that the original is not held.
  CHECK(cache_->PrepareWrite(sequence->pages, sequence->computed, 1));
  if (prefixes_ != nullptr) prefixes_->CountLookup(*sequence);
  return true;
}

bool Scheduler::WouldFitBesideOldest(const Sequence& sequence) {
  int64_t pages = cache_->available_pages();
  const std::vector<Tenant*> tenants = tenants_.Running();
  for (const Tenant* tenant : tenants) {
    for (size_t i = 1; i < tenant->running.size(); ++i) {
      pages += cache_->PagesOfItsOwn(tenant->running[i]->pages);
    }
  }
  return static_cast<int64_t>(tenants.size()) < max_running_ &&
         PagesForTokens(sequence.size()) +
                 static_cast<int64_t>(tenants.size()) <=
             pages;
}

bool Scheduler::MakeRoom(Sequence* sequence) {
  while (!cache_->PrepareWrite(sequence->pages, sequence->computed, 1)) {
    Sequence* victim = Victim(/*least=*/1);
    CHECK(running_.size() > 1, "{} tokens do not fit {} pages",
          sequence->size(), cache_->total_pages());
    Preempt(victim);
    if (victim == sequence) return false;
  }
  return true;
}

std::vector<Work> Scheduler::Plan() {
  Admit();
  std::vector<Sequence*> generating;
  for (Sequence* sequence : running_) {
    if (sequence->uncomputed() == 1) generating.push_back(sequence);
  }
  for (Sequence* sequence : generating) {
    if (sequence->running) MakeRoom(sequence);
  }
  // Guesses and prompt tokens compete for the same time, and a prompt's share
  // of it is measured without guesses.
  const bool may_guess =
      std::none_of(running_.begin(), running_.end(),
                   [](const auto* s) { return s->uncomputed() > 1; });
  std::vector<Work> plan;
  for (Sequence* sequence : generating) {
    // One that got its page may have lost it to a later one.
    if (!sequence->running) continue;
    const auto guesses = static_cast<int64_t>(sequence->draft.size());
    const bool fits =
        may_guess && guesses > 0 &&
        cache_->PrepareWrite(sequence->pages, sequence->computed, 1 + guesses);
    plan.push_back({sequence, sequence->computed, 1, fits ? guesses : 0});
  }
  PlanPrompts(budget_(static_cast<int64_t>(plan.size())), plan);
  CHECK(!plan.empty() || (running_.empty() && num_waiting() == 0),
        "{} running, {} waiting", running_.size(), num_waiting());
  return plan;
}

void Scheduler::PlanPrompts(int64_t budget, std::vector<Work>& plan) {
  for (const Tenant* tenant : tenants_.Running()) {
    std::vector<Sequence*> prompts;  // by key: the oldest first
    for (Sequence* sequence : tenant->running) {
      if (sequence->uncomputed() > 1) prompts.push_back(sequence);
    }
    if (budget == 0 || prompts.empty()) continue;
    if (prefixes_ != nullptr) {
      for (Sequence* sequence : prompts) prefixes_->Extend(*sequence);
    }
    Sequence* nearest = *std::min_element(
        prompts.begin(), prompts.end(), [](const auto* a, const auto* b) {
          return a->uncomputed() < b->uncomputed();
        });
    const int64_t passing = nearest == prompts.front()
                                ? 0
                                : std::min(budget / 2, nearest->uncomputed());
    budget -= passing;
    for (Sequence* sequence : prompts) {
      int64_t count = sequence == nearest ? passing : 0;
      const int64_t more = std::min(budget, sequence->uncomputed() - count);
      budget -= more;
      count += more;
      if (count == 0) continue;
      // Reserved at admission.
      CHECK(cache_->PrepareWrite(sequence->pages, sequence->computed, count));
      plan.push_back({sequence, sequence->computed, count});
    }
  }
}

void Scheduler::Commit(const std::vector<Work>& plan) {
  for (const Work& work : plan) {
    Sequence& sequence = *work.sequence;
    sequence.computed += work.count;
    // What is computed again after a preemption is not the tenant's doing.
    const int64_t fresh =
        sequence.computed - std::max(sequence.charged, work.first);
    if (fresh > 0) {
      tenants_.Charge(sequence,
                      work.count == 1 ? kLoneTokenCost * fresh : fresh);
      sequence.charged = sequence.computed;
    }
    if (prefixes_ != nullptr) prefixes_->Learn(sequence);
  }
}

void Scheduler::Accept(Sequence* sequence, int64_t count) {
  sequence->computed += count;
  CHECK(sequence->computed < sequence->size());
  const int64_t fresh = sequence->computed - sequence->charged;
  if (fresh <= 0) return;
  tenants_.Charge(*sequence, kLoneTokenCost * fresh);
  sequence->charged = sequence->computed;
}

}  // namespace conclave::engine
