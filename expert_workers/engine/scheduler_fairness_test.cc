// Tenants beside each other: shares, and nobody waits for ever.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "expert_workers/engine/scheduler_fixture.h"

namespace conclave::engine {
namespace {

// A tenant that sends everything at once, and one that sends a request now
// and then.
class FloodTest : public testing::Test {
 protected:
  void Flood(size_t count, size_t prompt, int64_t answer) {
    for (size_t i = 0; i < count; ++i) {
      Send("flood", prompt, answer);
    }
  }
  Sequence* Send(const std::string& tenant, size_t prompt, int64_t answer) {
    sequences_.push_back(MakeSequence(++arrivals_, prompt, tenant));
    Sequence* sequence = sequences_.back().get();
    // No two begin alike.
    sequence->tokens[0] = static_cast<int32_t>(100 + arrivals_);
    goal_[sequence] = sequence->size() + answer;
    scheduler_.Add(sequence);
    return sequence;
  }
  // One step; what has its answer leaves.
  void StepAll() {
    ++now_;
    for (const Work& work : scheduler_.Plan()) {
      scheduler_.Commit({work});
      Sequence* sequence = work.sequence;
      served_[sequence->tenant] += work.count;
      if (sequence->uncomputed() == 0) sequence->tokens.push_back(1);
      if (sequence->size() < goal_[sequence]) continue;
      scheduler_.Remove(sequence);
      ended_at_[sequence] = now_;
    }
  }
  bool Ended(const Sequence* sequence) const {
    return ended_at_.contains(sequence);
  }

  KvCache cache_{Shape(), 60 * Shape().PageBytes()};
  PrefixCache prefixes_{&cache_};
  Scheduler scheduler_{4, Budget(64, 16), &cache_, &prefixes_};
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::map<const Sequence*, int64_t> goal_;
  std::map<const Sequence*, int> ended_at_;
  std::map<std::string, int64_t> served_;
  uint64_t arrivals_ = 0;
  int now_ = 0;
};

TEST_F(FloodTest, AnotherTenantBeginsAtOnce) {
  Flood(50, 100, 200);
  for (int i = 0; i < 30; ++i) StepAll();
  EXPECT_EQ(scheduler_.num_running(), 4);
  // Every slot is taken for hundreds of steps; this one does not wait for
  // that.
  Sequence* guest = Send("guest", 40, 10);
  StepAll();
  EXPECT_TRUE(guest->running);
  for (int i = 0; i < 20 && !Ended(guest); ++i) StepAll();
  EXPECT_TRUE(Ended(guest));
  // Who gave way lost nothing that had to be computed again.
  int64_t preemptions = 0;
  for (const auto& s : sequences_) preemptions += s->preemptions;
  EXPECT_EQ(preemptions, 1);
  int steps = 0;
  while (ended_at_.size() < sequences_.size()) {
    ASSERT_LT(++steps, 20000);
    StepAll();
  }
  EXPECT_EQ(cache_.used_pages(), 0);
}

TEST_F(FloodTest, AnotherTenantBeginsThoughThePagesAreTaken) {
  Flood(8, 440, 30);  // 14 pages each, and 60 there are
  for (int i = 0; i < 40; ++i) StepAll();
  ASSERT_EQ(scheduler_.num_running(), 4);
  ASSERT_LT(cache_.available_pages(), 8);
  Sequence* guest = Send("guest", 500, 10);
  StepAll();
  EXPECT_TRUE(guest->running);
  int64_t others = 0;
  for (const auto& s : sequences_) others += s->running && s.get() != guest;
  EXPECT_GE(others, 1);  // nobody loses the last one
  int steps = 0;
  while (ended_at_.size() < sequences_.size()) {
    ASSERT_LT(++steps, 20000);
    StepAll();
  }
}

TEST_F(FloodTest, WithWorkForBothEachGetsHalf) {
  Flood(300, 60, 40);
  for (int i = 0; i < 50; ++i) StepAll();
  for (int i = 0; i < 20; ++i) Send("steady", 60, 40);
  served_.clear();
  for (int i = 0; i < 120; ++i) StepAll();
  const double share =
      static_cast<double>(served_["steady"]) /
      static_cast<double>(served_["steady"] + served_["flood"]);
  EXPECT_GT(share, 0.4);
  EXPECT_LT(share, 0.6);
}

TEST_F(FloodTest, NobodyStarves) {
  for (uint32_t seed = 0; seed < 5; ++seed) {
    std::mt19937 random(seed);
    Flood(60, 1 + random() % 200, 1 + random() % 100);
    for (int i = 0; i < 40; ++i) {
      const std::string tenant = "tenant " + std::to_string(random() % 9);
      Send(tenant, 1 + random() % 300, static_cast<int64_t>(1 + random() % 60));
      for (auto n = random() % 10; n > 0; --n) StepAll();
    }
    int steps = 0;
    while (ended_at_.size() < sequences_.size()) {
      ASSERT_LT(++steps, 20000) << "seed " << seed;
      StepAll();
    }
    EXPECT_EQ(cache_.used_pages(), 0);
    sequences_.clear();
    ended_at_.clear();
  }
}

}  // namespace
}  // namespace conclave::engine
