#include "router_service/dispatch/watchdog.h"

#include <algorithm>
#include <chrono>

namespace conclave::router {

Watchdog::Watchdog(Clock* clock) : clock_(clock), thread_([this] { Run(); }) {}

Watchdog::~Watchdog() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

Watchdog::Watch::~Watch() {
  if (owner_ == nullptr) return;
  std::lock_guard lock(owner_->mutex_);
  const auto found = owner_->times_.find(key_);
  owner_->due_.erase({found->second, key_});
  owner_->times_.erase(found);
}

Watchdog::Watch Watchdog::Start(int64_t first_look_nanos, Look look) {
  std::lock_guard lock(mutex_);
  const uint64_t key = next_key_++;
  times_[key] = first_look_nanos;
  due_[{first_look_nanos, key}] = std::move(look);
  // The thread sleeps until the earliest.
  if (due_.begin()->first.second == key) wake_.notify_one();
  return Watch(this, key);
}

void Watchdog::Run() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    if (due_.empty()) {
      wake_.wait(lock);
      continue;
    }
    const auto [time, key] = due_.begin()->first;
    const int64_t now = clock_->MonotonicNanos();
    if (now < time) {
      // Never for so long that adding it to the time would overflow.
      wake_.wait_for(lock,
                     std::min(std::chrono::nanoseconds(time - now),
                              std::chrono::nanoseconds(std::chrono::hours(1))));
      continue;
    }
    // The lock stays: whoever ends its watch waits for the look.
    auto entry = due_.extract(due_.begin());
    const int64_t next = std::max(entry.mapped()(now), now + 1);
    entry.key().first = times_[key] = next;
    due_.insert(std::move(entry));
  }
}

}  // namespace conclave::router
