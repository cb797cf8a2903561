// A few threads for calls that block (the router's unary methods), so that
// the server's own threads never do.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_BLOCKING_POOL_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_BLOCKING_POOL_H_

#include <functional>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"

namespace conclave::gateway {

// Threads: TryRun may be called concurrently.
class BlockingPool {
 public:
  BlockingPool(int threads, size_t queue) : queue_(queue) {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this] {
        while (auto task = queue_.Pop(absl::InfiniteDuration())) (*task)();
      });
    }
  }
  // Runs what is queued, then stops.
  ~BlockingPool() {
    queue_.Close();
    for (std::thread& thread : threads_) thread.join();
  }
  // False when the queue is full.
  bool TryRun(std::function<void()> task) {
    return queue_.TryPush(std::move(task));
  }

 private:
  BoundedQueue<std::function<void()>> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_BLOCKING_POOL_H_
