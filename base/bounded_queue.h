// A queue with a bound: a producer that finds it full is told so at once, a
// consumer waits with a deadline. Close() wakes everybody.
#ifndef CONCLAVE_BASE_BOUNDED_QUEUE_H_
#define CONCLAVE_BASE_BOUNDED_QUEUE_H_

#include <absl/time/time.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace conclave {

// Threads: all methods may run concurrently.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // False when the queue is full or closed; `value` is untouched then.
  bool TryPush(T&& value) {
    {
      std::lock_guard lock(mutex_);
      if (closed_ || items_.size() >= capacity_) return false;
      items_.push_back(std::move(value));
    }
    ready_.notify_one();
    return true;
  }

  // The oldest item; nothing when the time is up, or when the queue is closed
  // and empty.
  std::optional<T> Pop(absl::Duration timeout) {
    std::unique_lock lock(mutex_);
    const auto has_news = [this] { return closed_ || !items_.empty(); };
    if (timeout == absl::InfiniteDuration()) {
      ready_.wait(lock, has_news);
    } else {
      ready_.wait_for(lock, absl::ToChronoNanoseconds(timeout), has_news);
    }
    if (items_.empty()) return std::nullopt;
    T value = std::move(items_.front());
    items_.pop_front();
    return value;
  }

  // No more pushes; what is queued can still be popped.
  void Close() {
    {
      std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
  }

  bool closed() const {
    std::lock_guard lock(mutex_);
    return closed_;
  }
  size_t size() const {
    std::lock_guard lock(mutex_);
    return items_.size();
  }

 private:
  const size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<T> items_;
  bool closed_ = false;
};

}  // namespace conclave

#endif  // CONCLAVE_BASE_BOUNDED_QUEUE_H_
