#include "router_service/dispatch/in_flight.h"

#include <algorithm>

namespace conclave::router {

InFlight::Ticket InFlight::Begin() {
  std::lock_guard lock(mutex_);
  entries_.emplace_front();
  return Ticket(this, entries_.begin());
}

bool InFlight::IdleSince(std::string_view expert, uint64_t revision) const {
  std::lock_guard lock(mutex_);
  return std::ranges::none_of(entries_, [&](const Entry& entry) {
    return entry.revision < revision &&
           (!entry.experts || entry.experts->contains(std::string(expert)));
  });
}

std::map<std::string, int64_t> InFlight::Counts() const {
  std::lock_guard lock(mutex_);
  std::map<std::string, int64_t> counts;
  for (const Entry& entry : entries_) {
    if (!entry.answering.empty()) ++counts[entry.answering];
  }
  return counts;
}

void InFlight::Ticket::SetRevision(uint64_t revision) {
  std::lock_guard lock(owner_->mutex_);
  entry_->revision = revision;
}

void InFlight::Ticket::Narrow(std::set<std::string> experts) {
  {
    std::lock_guard lock(owner_->mutex_);
    entry_->experts = std::move(experts);
  }
  if (owner_->on_change_) owner_->on_change_();
}

void InFlight::Ticket::Answering(const std::string& expert,
                                 std::set<std::string> experts) {
  {
    std::lock_guard lock(owner_->mutex_);
    entry_->answering = expert;
    entry_->experts = std::move(experts);
  }
  if (owner_->on_change_) owner_->on_change_();
}

void InFlight::Ticket::End() {
  if (owner_ == nullptr) return;
  InFlight* const owner = std::exchange(owner_, nullptr);
  {
    std::lock_guard lock(owner->mutex_);
    owner->entries_.erase(entry_);
  }
  if (owner->on_change_) owner->on_change_();
}

}  // namespace conclave::router
