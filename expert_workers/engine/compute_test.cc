#include "expert_workers/engine/compute.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace conclave::engine {
namespace {

TEST(ComputeTest, EveryIndexOnceForAnyCut) {
  for (const int threads : {1, 2, 3, 8}) {
    const auto compute = Compute::Create(threads);
    EXPECT_EQ(compute->threads(), threads);
    Compute::Turn turn(compute.get());
    for (const int64_t count : {0, 1, 2, 7, 64, 1000}) {
      for (const int64_t grain : {1, 3, 64}) {
        std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
        compute->ParallelFor(count, grain, [&](int64_t begin, int64_t end) {
          EXPECT_TRUE(threads == 1 || end - begin <= grain);
          for (int64_t i = begin; i < end; ++i) {
            hits[static_cast<size_t>(i)].fetch_add(1);
          }
        });
        for (const auto& hit : hits) EXPECT_EQ(hit.load(), 1);
      }
    }
  }
}

// Written by one job, read by the next: what a barrier is for. Without the
// right ordering, tsan reports it and the sums differ.
TEST(ComputeTest, AJobSeesWhatTheLastOneWrote) {
  const auto compute = Compute::Create(2);
  Compute::Turn turn(compute.get());
  std::vector<int64_t> values(97, 0);
  for (int64_t step = 0; step < 3000; ++step) {
    compute->ParallelFor(97, 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        EXPECT_EQ(values[static_cast<size_t>(i)], step);
        values[static_cast<size_t>(i)] = step + 1;
      }
    });
    if (step % 1000 == 0) {  // longer than the spin: workers sleep
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
}

TEST(ComputeTest, TurnsGoByOrderOfArrivalOneAtATime) {
  const auto compute = Compute::Create(2);
  std::atomic<int> holders{0};
  std::vector<int> order;
  std::vector<std::thread> others;
  {
    Compute::Turn first(compute.get());
    for (int i = 0; i < 4; ++i) {
      others.emplace_back([&, i] {
        Compute::Turn turn(compute.get());
        EXPECT_EQ(holders.fetch_add(1), 0);
        order.push_back(i);
        holders.fetch_sub(1);
      });
      // Arrive one after the other.
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    EXPECT_TRUE(order.empty());
  }
  for (std::thread& other : others) other.join();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3}));
}

}  // namespace
}  // namespace conclave::engine
