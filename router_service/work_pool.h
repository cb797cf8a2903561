// A few threads for what must not run on gRPC's: they are two on a small
// machine, and every callback of the process needs them.
#ifndef CONCLAVE_ROUTER_SERVICE_WORK_POOL_H_
#define CONCLAVE_ROUTER_SERVICE_WORK_POOL_H_

#include <functional>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"

namespace conclave::router {

// Threads: Post may run concurrently.
class WorkPool {
 public:
  WorkPool(int threads, size_t capacity) : queue_(capacity) {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this] {
        while (auto work = queue_.Pop(absl::InfiniteDuration())) (*work)();
      });
    }
  }
  // Runs what is queued, then ends.
  ~WorkPool() {
    queue_.Close();
    for (std::thread& thread : threads_) thread.join();
  }
  // False when too much waits already; `work` will not run then.
  [[nodiscard]] bool Post(std::function<void()> work) {
    return queue_.TryPush(std::move(work));
  }

 private:
  BoundedQueue<std::function<void()>> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_WORK_POOL_H_
