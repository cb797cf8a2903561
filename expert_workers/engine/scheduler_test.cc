#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "expert_workers/engine/scheduler_fixture.h"

namespace conclave::engine {
namespace {

TEST(SchedulerTest, PromptsAreCutAndGenerationComesFirst) {
  KvCache cache(Shape(), 100 * Shape().PageBytes());
  Scheduler scheduler(4, Budget(64, 16), &cache, nullptr);
  auto a = MakeSequence(1, 100);
  auto b = MakeSequence(2, 20);
  scheduler.Add(a.get());
  scheduler.Add(b.get());
  // The one nearest its end gets up to half of the budget, the oldest the rest.
  std::vector<Work> plan = Step(scheduler);
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].sequence, a.get());
  EXPECT_EQ(plan[0].count, 44);
  EXPECT_FALSE(plan[0].reaches_end());
  EXPECT_EQ(plan[1].sequence, b.get());
  EXPECT_EQ(plan[1].count, 20);
  EXPECT_EQ(b->computed, 20);
  plan = Step(scheduler);  // b generates, a gets the smaller budget
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].sequence, b.get());
  EXPECT_EQ(plan[1].first, 44);
  EXPECT_EQ(plan[1].count, 16);
  for (int i = 0; i < 3; ++i) Step(scheduler);
  EXPECT_EQ(a->uncomputed(), 1);
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
  Scheduler scheduler(2, Budget(256, 32), &cache, nullptr);
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
  Scheduler scheduler(4, Budget(512, 32), &cache, nullptr);
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
  Scheduler scheduler(2, Budget(256, 32), &cache, nullptr);
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

TEST(SchedulerTest, WhatAPreemptedSequenceComputedIsFoundAgain) {
  KvCache cache(Shape(), 6 * Shape().PageBytes());
  PrefixCache prefixes(&cache);
  Scheduler scheduler(4, Budget(512, 32), &cache, &prefixes);
  auto a = MakeSequence(1, 30);
  auto b = MakeSequence(2, 40);
  b->tokens[0] = 8;
  scheduler.Add(a.get());
  scheduler.Add(b.get());
  while (b->preemptions == 0) Step(scheduler);
  const int64_t size = b->size();
  EXPECT_GT(size, 40);
  EXPECT_EQ(b->pages.num_pages(), 0);
  EXPECT_GT(cache.idle_pages(), 0);
  scheduler.Remove(a.get());
  const std::vector<Work> plan = Step(scheduler);
  ASSERT_EQ(plan.size(), 1u);
  // a's next page took b's last one; the others are here.
  EXPECT_EQ(plan[0].sequence, b.get());
  EXPECT_GE(plan[0].first, 32);
  EXPECT_EQ(b->reused, plan[0].first);
  scheduler.Remove(b.get());
  EXPECT_EQ(cache.used_pages(), 0);
  EXPECT_EQ(cache.available_pages(), 6);
}

TEST(SchedulerTest, TheSecondOfTwoEqualPromptsFollowsTheFirst) {
  KvCache cache(Shape(), 100 * Shape().PageBytes());
  PrefixCache prefixes(&cache);
  Scheduler scheduler(4, Budget(64, 32), &cache, &prefixes);
  auto a = MakeSequence(1, 640);
  auto b = MakeSequence(2, 650);
  scheduler.Add(a.get());
  scheduler.Add(b.get());
  int64_t computed = 0;
  int steps = 0;
  while (a->size() == 640 || b->size() == 650) {
    ASSERT_LT(++steps, 100);
    for (const Work& work : Step(scheduler)) computed += work.count;
  }
  // Not 1290. They take turns at being ahead.
  EXPECT_LT(computed, 640 + 100);
  EXPECT_GT(a->reused + b->reused, 500);
  scheduler.Remove(a.get());
  scheduler.Remove(b.get());
}

TEST(SchedulerTest, NothingIsGuessedBesideAPrompt) {
  KvCache cache(Shape(), 100 * Shape().PageBytes());
  Scheduler scheduler(4, Budget(64, 16), &cache, nullptr);
  auto a = MakeSequence(1, 10);
  scheduler.Add(a.get());
  Step(scheduler);
  a->draft = {7, 7, 7};
  std::vector<Work> plan = scheduler.Plan();
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan[0].guesses, 3);
  EXPECT_EQ(plan[0].count, 1);
  auto b = MakeSequence(2, 40);
  scheduler.Add(b.get());
  plan = scheduler.Plan();
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].guesses, 0);
  EXPECT_EQ(plan[1].sequence, b.get());
  scheduler.Remove(a.get());
  scheduler.Remove(b.get());
}

TEST(SchedulerTest, AShortPromptPassesALongOne) {
  KvCache cache(Shape(), 1000 * Shape().PageBytes());
  Scheduler scheduler(8, Budget(64, 16), &cache, nullptr);
  auto giant = MakeSequence(1, 10000);
  scheduler.Add(giant.get());
  Step(scheduler);
  auto brief = MakeSequence(2, 50);
  scheduler.Add(brief.get());
  Step(scheduler);
  Step(scheduler);
  EXPECT_EQ(brief->size(), 51);  // it has its first token
  // And however many short ones come, half of the steps' tokens are the long
  // one's.
  std::vector<std::unique_ptr<Sequence>> more;
  const int64_t before = giant->computed;
  int64_t prompt_tokens = 0;
  for (uint64_t i = 0; i < 50; ++i) {
    more.push_back(MakeSequence(3 + i, 40));
    scheduler.Add(more.back().get());
    for (const Work& work : Step(scheduler)) {
      prompt_tokens += work.count == 1 ? 0 : work.count;
    }
    if (i >= 4) scheduler.Remove(more[i - 4].get());
  }
  EXPECT_GE(2 * (giant->computed - before), prompt_tokens);
  for (auto& s : more) scheduler.Remove(s.get());
  scheduler.Remove(brief.get());
  scheduler.Remove(giant.get());
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
    const auto draw = [&](uint32_t n) {
      return 1 + static_cast<int64_t>(random() % n);
    };
    const int64_t slots = draw(5);
    const int64_t alone = draw(70);
    std::unique_ptr<PrefixCache> prefixes;
    if (seed % 2 == 1) prefixes = std::make_unique<PrefixCache>(&cache);
    Scheduler scheduler(slots, Budget(alone, draw(20)), &cache, prefixes.get());
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
        const size_t goal = std::min<size_t>(prompt + 1 + random() % 80,
                                             static_cast<size_t>(pages * 32));
        live.push_back({MakeSequence(arrivals++, std::min(prompt, goal),
                                     "tenant " + std::to_string(random() % 3)),
                        goal});
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
