#include "expert_workers/residency.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace conclave::workers {
namespace {

using Move = Decision::Move;

ModelView Cold(int64_t bytes, std::vector<uint64_t> waiting = {}) {
  ModelView model;
  model.room.weights = bytes;
  model.max_active = 4;
  model.waiting = std::move(waiting);
  return model;
}
ModelView Live(int64_t bytes, int active, std::vector<uint64_t> waiting = {}) {
  ModelView model = Cold(bytes, std::move(waiting));
  model.state = Residency::kLive;
  model.active = active;
  return model;
}

TEST(ResidencyTest, WhatFitsIsLoadedAndAdmitted) {
  const Decision d =
      Decide({Cold(40, {1}), Cold(50, {2}), Live(10, 1, {3, 4})}, {100, 0}, 2);
  EXPECT_EQ(d.models[0].move, Move::kLoad);
  EXPECT_EQ(d.models[1].move, Move::kLoad);
  EXPECT_EQ(d.models[2].admit, 2);
  EXPECT_FALSE(d.models[2].pressed);
}

TEST(ResidencyTest, SlotsBoundAdmission) {
  const Decision d = Decide({Live(10, 3, {1, 2, 3})}, {100, 0}, 2);
  EXPECT_EQ(d.models[0].admit, 1);
}

TEST(ResidencyTest, IdleModelsLeaveFirstLeastRecentlyUsed) {
  ModelView busy = Live(40, 1);
  busy.last_used = 1;
  ModelView old_idle = Live(30, 0);
  old_idle.last_used = 2;
  ModelView new_idle = Live(30, 0);
  new_idle.last_used = 3;
  const Decision d =
      Decide({busy, new_idle, old_idle, Cold(25, {9})}, {100, 0}, 2);
  EXPECT_EQ(d.models[0].move, Move::kNone);
  EXPECT_EQ(d.models[1].move, Move::kNone);
  EXPECT_EQ(d.models[2].move, Move::kUnload);
  EXPECT_EQ(d.models[3].move, Move::kNone) << "loads once there is room";
}

TEST(ResidencyTest, NothingIsUnloadedWhileRoomIsBeingMade) {
  ModelView leaving = Live(50, 0);
  leaving.state = Residency::kLeaving;
  const Decision d = Decide({leaving, Live(50, 0), Cold(40, {1})}, {100, 0}, 2);
  EXPECT_EQ(d.models[1].move, Move::kNone);
}

TEST(ResidencyTest, APressedModelTakesEarlierRequestsAndATurnOfLaterOnes) {
  ModelView busy = Live(80, 1, {3, 7, 8, 9});
  busy.max_active = 10;
  const ModelView waits = Cold(80, {5});
  Decision d = Decide({busy, waits}, {100, 0}, 2);
  EXPECT_TRUE(d.models[0].pressed);
  EXPECT_EQ(d.models[0].admit, 3);  // 3, then 7 and 8 out of order
  EXPECT_EQ(d.models[0].out_of_order, 2);
  EXPECT_EQ(d.models[0].move, Move::kNone);

  busy.waiting = {9};
  busy.turn_used = 2;
  d = Decide({busy, waits}, {100, 0}, 2);
  EXPECT_EQ(d.models[0].admit, 0);
  EXPECT_EQ(d.models[0].move, Move::kNone) << "one request still runs";
  busy.active = 0;
  d = Decide({busy, waits}, {100, 0}, 2);
  EXPECT_EQ(d.models[0].move, Move::kUnload);
}

TEST(ResidencyTest, KvIsRoomToo) {
  ModelView first = Live(10, 0);
  first.room.kv = 60;
  ModelView second = Cold(10, {1});
  second.room.kv = 50;
  EXPECT_EQ(Decide({first, second}, {100, 100}, 2).models[0].move,
            Move::kUnload);
  EXPECT_EQ(Decide({first, second}, {100, 110}, 2).models[1].move, Move::kLoad);
}

TEST(ResidencyTest, AnUnloadWaitsForTheWork) {
  ModelView model = Live(10, 1);
  model.wants_out = true;
  EXPECT_EQ(Decide({model}, {100, 0}, 2).models[0].move, Move::kNone);
  model.active = 0;
  EXPECT_EQ(Decide({model}, {100, 0}, 2).models[0].move, Move::kUnload);
}

// Random arrivals at five models, two of which fit at a time: memory is never
// overcommitted, every request is served, and nobody is overtaken without end.
TEST(ResidencyTest, EverybodyIsServedWithinTheBudget) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    std::vector<ModelView> models;
    for (int i = 0; i < 5; ++i) models.push_back(Cold(30 + 5 * i));
    const Room budget{80, 0};
    constexpr uint64_t kRequests = 400;
    constexpr int kTurn = 3;
    uint64_t arrival = 0;
    uint64_t served = 0;
    uint64_t clock = 0;
    uint64_t worst_overtaking = 0;
    std::vector<uint64_t> admitted;
    for (int step = 0; step < 20'000 && served < kRequests; ++step) {
      if (arrival < kRequests && random() % 2 == 0) {
        // Mostly one hot model.
        const size_t to = random() % 3 != 0 ? 0 : random() % 5;
        models[to].waiting.push_back(++arrival);
      }
      for (ModelView& model : models) {
        if (model.state == Residency::kLoading) {
          model.state = Residency::kLive;
        } else if (model.state == Residency::kLeaving) {
          model.state = Residency::kCold;
        } else if (model.active > 0 && random() % 2 == 0) {
          --model.active;
          ++served;
        }
      }
      const Decision d = Decide(models, budget, kTurn);
      int64_t used = 0;
      for (size_t i = 0; i < models.size(); ++i) {
        ModelView& model = models[i];
        for (int k = 0; k < d.models[i].admit; ++k) {
          const uint64_t a = model.waiting.front();
          model.waiting.erase(model.waiting.begin());
          uint64_t overtaken = 0;
          for (const uint64_t b : admitted) overtaken += b > a;
          worst_overtaking = std::max(worst_overtaking, overtaken);
          admitted.push_back(a);
          ++model.active;
          model.last_used = ++clock;
        }
        model.turn_used = d.models[i].pressed
                              ? model.turn_used + d.models[i].out_of_order
                              : 0;
        if (d.models[i].move == Move::kLoad) {
          ASSERT_EQ(model.state, Residency::kCold);
          model.state = Residency::kLoading;
        } else if (d.models[i].move == Move::kUnload) {
          ASSERT_EQ(model.state, Residency::kLive);
          ASSERT_EQ(model.active, 0);
          model.state = Residency::kLeaving;
        }
        if (model.state != Residency::kCold) used += model.room.weights;
      }
      ASSERT_LE(used, budget.weights) << "seed " << seed;
    }
    EXPECT_EQ(served, kRequests) << "seed " << seed;
    // Two models may be live beside the one that waits, and it may be behind
    // three others that wait.
    EXPECT_LT(worst_overtaking, 60u) << "seed " << seed;
  }
}

}  // namespace
}  // namespace conclave::workers
