// Looks at what may have fallen silent. One thread for everything that is
// watched; whoever makes progress tells nobody: each look says when the next
// one is due.
//
// Threads: all methods may run concurrently.
#ifndef CONCLAVE_ROUTER_SERVICE_DISPATCH_WATCHDOG_H_
#define CONCLAVE_ROUTER_SERVICE_DISPATCH_WATCHDOG_H_

#include <absl/time/time.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "base/clock.h"

namespace conclave::router {

class Watchdog {
 public:
  // Given the time, returns when to look again, both as the clock's
  // MonotonicNanos. Runs on the watchdog's thread: must not block, and must
  // not watch or unwatch.
  using Look = std::function<int64_t(int64_t now_nanos)>;

  explicit Watchdog(Clock* clock);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Ends when destroyed; no look is in progress afterwards. Move-only.
  class Watch {
   public:
    Watch() = default;
    Watch(Watch&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), key_(other.key_) {}
    Watch& operator=(Watch&& other) noexcept {
      std::swap(owner_, other.owner_);
      std::swap(key_, other.key_);
      return *this;
    }
    ~Watch();

   private:
    friend class Watchdog;
    Watch(Watchdog* owner, uint64_t key) : owner_(owner), key_(key) {}
    Watchdog* owner_ = nullptr;
    uint64_t key_ = 0;
  };

  [[nodiscard]] Watch Start(int64_t first_look_nanos, Look look);

 private:
  void Run();

  Clock* const clock_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::pair<int64_t, uint64_t>, Look> due_;  // by time, then key
  std::map<uint64_t, int64_t> times_;                 // key -> time in due_
  uint64_t next_key_ = 0;
  bool stop_ = false;
  std::thread thread_;  // last: uses all of the above
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_DISPATCH_WATCHDOG_H_
