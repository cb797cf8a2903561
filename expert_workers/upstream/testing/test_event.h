// Something that happens once. As absl::Notification, whose library
// ThreadSanitizer cannot see into.
#ifndef CONCLAVE_EXPERT_WORKERS_UPSTREAM_TESTING_TEST_EVENT_H_
#define CONCLAVE_EXPERT_WORKERS_UPSTREAM_TESTING_TEST_EVENT_H_

#include <absl/time/time.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace conclave {

class TestEvent {
 public:
  void Notify() {
    std::lock_guard lock(mutex_);
    happened_ = true;
    changed_.notify_all();
  }
  bool HasHappened() const {
    std::lock_guard lock(mutex_);
    return happened_;
  }
  // False when it has not happened within the time.
  bool Wait(absl::Duration timeout = absl::Seconds(20)) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, absl::ToChronoNanoseconds(timeout),
                             [this] { return happened_; });
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool happened_ = false;
};

}  // namespace conclave

#endif  // CONCLAVE_EXPERT_WORKERS_UPSTREAM_TESTING_TEST_EVENT_H_
