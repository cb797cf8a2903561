#include "expert_workers/engine/compute.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"

namespace conclave::engine {
namespace {

// How long an idle worker spins before it sleeps. The serial stretches between
// two parallel ones of a step are shorter than this; a longer spin would take
// time from whoever shares the core.
constexpr auto kSpin = std::chrono::microseconds(40);

bool SpinUntil(auto&& done) {
  const auto give_up = std::chrono::steady_clock::now() + kSpin;
  for (;;) {
    for (int i = 0; i < 64; ++i) {
      if (done()) return true;
      _mm_pause();
    }
    if (std::chrono::steady_clock::now() >= give_up) return false;
  }
}

// The state of the current job in one word, so that joining and closing are
// single atomic steps:
//
//   bits 0..15   workers inside the job
//   bit  16      open: workers may still join
//   bits 17..31  which job (wraps: a worker that slept through exactly 2^15
//                jobs misses one, which costs nothing but its help)
//
// The caller works too and never waits for a worker that has not joined: one
// that the machine keeps from running delays nobody.
constexpr uint32_t kInsideMask = 0xffff;
constexpr uint32_t kOpen = 1u << 16;
constexpr uint32_t kJob = 1u << 17;

class ThreadTeam final : public Compute {
 public:
  explicit ThreadTeam(int threads) {
    for (int i = 1; i < threads; ++i) {
      workers_.emplace_back([this] { Work(); });
    }
  }

  ~ThreadTeam() override {
    stop_.store(true);
    state_.fetch_add(kJob);
    state_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  int threads() const override { return static_cast<int>(workers_.size()) + 1; }

  void ParallelFor(int64_t count, int64_t grain,
                   const std::function<void(int64_t, int64_t)>& body) override {
    CHECK(grain >= 1, "grain {}", grain);
    if (count <= 0) return;
    if (workers_.empty() || count <= grain) {
      body(0, count);
      return;
    }
    count_ = count;
    grain_ = grain;
    body_ = &body;
    next_.store(0, std::memory_order_relaxed);
    const uint32_t last = state_.load(std::memory_order_relaxed);
    // Nobody is inside: the last job ended with that.
    state_.store(((last & ~(kOpen | kInsideMask)) + kJob) | kOpen);
    state_.notify_all();
    RunChunks();
    // Chunks are all taken; wait for those who are still computing theirs.
    uint32_t now = state_.fetch_and(~kOpen) & ~kOpen;
    const auto nobody_inside = [&] {
      now = state_.load(std::memory_order_acquire);
      return (now & kInsideMask) == 0;
    };
    if (SpinUntil(nobody_inside)) return;
    while (!nobody_inside()) state_.wait(now);
  }

 protected:
  void Enter() override {
    std::unique_lock lock(turn_mutex_);
    const uint64_t mine = next_ticket_++;
    num_waiting_.fetch_add(1, std::memory_order_relaxed);
    turn_passed_.wait(lock, [&] { return serving_ == mine; });
    num_waiting_.fetch_sub(1, std::memory_order_relaxed);
  }

  bool Contended() const override {
    return num_waiting_.load(std::memory_order_relaxed) > 0;
  }

  void Leave() override {
    {
      std::lock_guard lock(turn_mutex_);
      ++serving_;
    }
    turn_passed_.notify_all();
  }

 private:
  void RunChunks() {
    for (;;) {
      const int64_t begin = next_.fetch_add(grain_, std::memory_order_relaxed);
      if (begin >= count_) return;
      (*body_)(begin, std::min(begin + grain_, count_));
    }
  }

  void Work() {
    uint32_t seen = 0;  // the job we have done, without its count
    for (;;) {
      uint32_t now = 0;
      const auto has_news = [&] {
        now = state_.load(std::memory_order_acquire);
        return (now & ~(kInsideMask | kOpen)) != seen;
      };
      if (!SpinUntil(has_news)) {
        while (!has_news()) state_.wait(now);
      }
      if (stop_.load()) return;
      seen = now & ~(kInsideMask | kOpen);
      while ((now & kOpen) != 0 && (now & ~(kInsideMask | kOpen)) == seen) {
        if (!state_.compare_exchange_weak(now, now + 1)) continue;
        RunChunks();
        const uint32_t left = state_.fetch_sub(1) - 1;
        if ((left & (kInsideMask | kOpen)) == 0) state_.notify_all();
        break;
      }
    }
  }

  std::vector<std::thread> workers_;
  std::atomic<bool> stop_{false};

  // The job. Written by the caller while nobody is inside.
  int64_t count_ = 0;
  int64_t grain_ = 1;
  const std::function<void(int64_t, int64_t)>* body_ = nullptr;
  // Apart, so that taking a chunk does not disturb those who watch the state.
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<uint32_t> state_{0};

  std::mutex turn_mutex_;
  std::condition_variable turn_passed_;
  uint64_t next_ticket_ = 0;
  uint64_t serving_ = 0;
  std::atomic<int> num_waiting_{0};
};

}  // namespace

std::unique_ptr<Compute> Compute::Create(int threads) {
  CHECK(threads >= 1 && threads <= 1024, "threads {}", threads);
  return std::make_unique<ThreadTeam>(threads);
}

}  // namespace conclave::engine
