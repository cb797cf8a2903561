#include "expert_workers/engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <vector>

namespace conclave::engine {
namespace {

KvShape Shape() {
  return {.type = kernels::KvType::kF32,
          .num_layers = 1,
          .num_kv_heads = 1,
          .head_dim = 2};
}

std::unique_ptr<Sequence> MakeSequence(uint64_t arrival, size_t prompt) {
  auto sequence = std::make_unique<Sequence>();
  sequence->arrival = arrival;
  sequence->tokens.assign(prompt, 7);
  return sequence;
}

// Plans, commits, and gives every sequence that reached its end a new token.
std::vector<Work> Step(Scheduler& scheduler) {
  std::vector<Work> plan = scheduler.Plan();
  scheduler.Commit(plan);
  for (const Work& work : plan) {
    if (work.sequence->uncomputed() == 0) work.sequence->tokens.push_back(1);
  }
  return plan;
}

TEST(SchedulerTest, PromptsAreCutAndGenerationComesFirst) {
  KvCache cache(Shape(), 100 * Shape().PageBytes());
  Scheduler scheduler({.max_running = 4,
                       .prefill_tokens = 64,
                       .prefill_tokens_shared = 16},
                      &cache);
  auto a = MakeSequence(1, 100);
  auto b = MakeSequence(2, 20);
  scheduler.Add(a.get());
  scheduler.Add(b.get());
  std::vector<Work> plan = Step(scheduler);
  ASSERT_EQ(plan.size(), 1u);  // the budget is spent on the first
  EXPECT_EQ(plan[0].sequence, a.get());
  EXPECT_EQ(plan[0].count, 64);
  EXPECT_FALSE(plan[0].reaches_end());
  plan = Step(scheduler);  // 36 of a, 20 of b
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].first, 64);
  EXPECT_EQ(plan[0].count, 36);
  EXPECT_EQ(plan[1].sequence, b.get());
  EXPECT_EQ(plan[1].count, 20);
  auto c = MakeSequence(3, 40);
  scheduler.Add(c.get());
  plan = Step(scheduler);  // a and b generate, c gets the smaller budget
  ASSERT_EQ(plan.size(), 3u);
  EXPECT_EQ(plan[0].count, 1);
  EXPECT_EQ(plan[1].count, 1);
  EXPECT_EQ(plan[2].sequence, c.get());
  EXPECT_EQ(plan[2].count, 16);
  for (Sequence* s : {a.get(), b.get(), c.get()}) scheduler.Remove(s);
  EXPECT_EQ(cache.used_pages(), 0);
  EXPECT_TRUE(scheduler.Plan().empty());
}

TEST(SchedulerTest, FirstComeFirstServedBySlots) {
  KvCache cache(Shape(), 100 * Shape().PageBytes());
  Scheduler scheduler({.max_running = 2}, &cache);
  std::vector<std::unique_ptr<Sequence>> all;
  for (uint64_t i = 0; i < 5; ++i) {
    all.push_back(MakeSequence(i, 3));
    scheduler.Add(all.back().get());
  }
  Step(scheduler);
  EXPECT_EQ(scheduler.num_running(), 2);
  EXPECT_EQ(scheduler.num_waiting(), 3);
  scheduler.Remove(all[1].get());
  const std::vector<Work> plan = Step(scheduler);
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].sequence, all[0].get());
  EXPECT_EQ(plan[1].sequence, all[2].get());
  for (auto& s : all) scheduler.Remove(s.get());
}

TEST(SchedulerTest, TheYoungestGivesWayAndComesBack) {
  KvCache cache(Shape(), 4 * Shape().PageBytes());
  Scheduler scheduler({.max_running = 4, .prefill_tokens = 512}, &cache);
  auto a = MakeSequence(1, 30);
  auto b = MakeSequence(2, 30);
  scheduler.Add(a.get());
  scheduler.Add(b.get());
  // Both grow; 4 pages hold 128 tokens together.
  while (a->tokens.size() < 90) Step(scheduler);
  EXPECT_EQ(a->preemptions, 0);
  EXPECT_GE(b->preemptions, 1);
  const size_t b_tokens = b->tokens.size();
  EXPECT_GT(b_tokens, 30u);  // what it generated is kept
  scheduler.Remove(a.get());
  const std::vector<Work> plan = Step(scheduler);
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan[0].sequence, b.get());
  EXPECT_EQ(plan[0].first, 0);  // computed again
  EXPECT_EQ(plan[0].count, static_cast<int64_t>(b_tokens));
  scheduler.Remove(b.get());
  EXPECT_EQ(cache.used_pages(), 0);
}

TEST(SchedulerTest, ForksShareAndWaitWhenThereIsNoSlot) {
  KvCache cache(Shape(), 100 * Shape().PageBytes());
  Scheduler scheduler({.max_running = 2}, &cache);
  auto parent = MakeSequence(1, 40);
  scheduler.Add(parent.get());
  Step(scheduler);
  std::vector<std::unique_ptr<Sequence>> children;
  for (int32_t i = 1; i <= 2; ++i) {
    children.push_back(MakeSequence(1, 40));
    children.back()->index = i;
    children.back()->tokens.push_back(i);
    scheduler.AddFork(*parent, 40, children.back().get());
  }
  EXPECT_EQ(scheduler.num_running(), 2);
  EXPECT_EQ(scheduler.num_waiting(), 1);
  EXPECT_EQ(cache.used_pages(), 2);  // shared
  const std::vector<Work> plan = Step(scheduler);
  EXPECT_EQ(plan.size(), 2u);
  EXPECT_EQ(cache.used_pages(), 3);  // the last page parted
  scheduler.Remove(parent.get());
  // The other child takes the slot and computes the prompt itself.
  const std::vector<Work> next = Step(scheduler);
  ASSERT_EQ(next.size(), 2u);
  EXPECT_EQ(next[1].count, 32);  // a prefill beside one that generates
  for (auto& child : children) scheduler.Remove(child.get());
  EXPECT_EQ(cache.used_pages(), 0);
}

// Random arrivals, lengths, removals and a cache that is too small: every
// sequence ends, nobody computes a position twice in one step or leaves a gap,
// and no page is left.
TEST(SchedulerTest, EveryAdmittedSequenceEnds) {
  int64_t preemptions = 0;
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    const int64_t pages = 5 + random() % 8;
    KvCache cache(Shape(), pages * Shape().PageBytes());
    Scheduler scheduler(
        {.max_running = 1 + static_cast<int64_t>(random() % 5),
         .prefill_tokens = 1 + static_cast<int64_t>(random() % 70),
         .prefill_tokens_shared = 1 + static_cast<int64_t>(random() % 20)},
        &cache);
    struct Item {
      std::unique_ptr<Sequence> sequence;
      size_t goal;
    };
    std::vector<Item> live;
    uint64_t arrivals = 0;
    size_t ended = 0;
    for (int step = 0; ended < 12; ++step) {
      ASSERT_LT(step, 20000) << "seed " << seed;
      if (arrivals < 12 && random() % 4 == 0) {
        const auto prompt = 1 + random() % 100;
        const size_t goal = std::min<size_t>(
            prompt + 1 + random() % 80, static_cast<size_t>(pages * 32));
        live.push_back({MakeSequence(arrivals++, std::min(prompt, goal)), goal});
        scheduler.Add(live.back().sequence.get());
      }
      std::set<Sequence*> seen;
      for (const Work& work : scheduler.Plan()) {
        EXPECT_TRUE(seen.insert(work.sequence).second);
        EXPECT_EQ(work.first, work.sequence->computed);
        EXPECT_GE(work.count, 1);
        EXPECT_LE(work.count, work.sequence->uncomputed());
        EXPECT_GE(work.sequence->pages.num_pages() * 32,
                  work.first + work.count);
        scheduler.Commit({work});
        if (work.sequence->uncomputed() == 0) {
          work.sequence->tokens.push_back(1);
        }
      }
      for (size_t i = 0; i < live.size();) {
        Sequence& sequence = *live[i].sequence;
        if (sequence.tokens.size() >= live[i].goal || random() % 500 == 0) {
          scheduler.Remove(&sequence);
          preemptions += sequence.preemptions;
          live.erase(live.begin() + static_cast<std::ptrdiff_t>(i));
          ++ended;
        } else {
          ++i;
        }
      }
    }
    EXPECT_EQ(cache.used_pages(), 0);
  }
  EXPECT_GT(preemptions, 0);  // the test is about them
}

}  // namespace
}  // namespace conclave::engine
