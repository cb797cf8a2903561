#include "expert_workers/engine/step_pacer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace conclave::engine {
namespace {

// A machine: a step costs so much, a generating row and a prompt row so much
// more.
struct Machine {
  double pass_us = 8000;
  double generated_us = 1000;
  double prompt_us = 900;

  absl::Duration Time(int64_t generating, int64_t prompt) const {
    return absl::Microseconds(pass_us +
                              generated_us * static_cast<double>(generating) +
                              prompt_us * static_cast<double>(prompt));
  }
};

TEST(StepPacerTest, AStepBesideOthersIsStretchedSoFar) {
  for (const double prompt_us : {200.0, 900.0, 5000.0, 40000.0}) {
    const Machine machine = {.prompt_us = prompt_us};
    StepPacer pacer({.stretch = 2.0});
    EXPECT_EQ(pacer.PromptTokens(8), 0);  // how long is it without?
    pacer.Observe(8, 0, machine.Time(8, 0));
    int64_t total = 0;
    for (int step = 0; step < 300; ++step) {
      const int64_t tokens = pacer.PromptTokens(8);
      if (step > 30 && tokens > 1) {
        EXPECT_LE(machine.Time(8, tokens), 2.05 * machine.Time(8, 0));
      }
      pacer.Observe(8, tokens, machine.Time(8, tokens));
      total += tokens;
    }
    // And no less than that, but for the steps that measure.
    const double full = std::max(
        absl::FDivDuration(machine.Time(8, 0), absl::Microseconds(prompt_us)),
        1.0);
    EXPECT_GT(static_cast<double>(total), 300 * 0.85 * std::floor(full));
  }
}

TEST(StepPacerTest, ALuckyOrUnluckyMeasurementPasses) {
  const Machine machine;
  std::mt19937 random(1);
  StepPacer pacer({.stretch = 2.0});
  int slow = 0;
  for (int step = 0; step < 2000; ++step) {
    const int64_t tokens = pacer.PromptTokens(4);
    absl::Duration took = machine.Time(4, tokens);
    if (took > 2.3 * machine.Time(4, 0)) ++slow;
    const auto luck = random() % 20;
    if (luck == 0) took *= 8;  // not scheduled for a while
    if (luck == 1) took *= 0.6;
    pacer.Observe(4, tokens, took);
  }
  EXPECT_LT(slow, 60);
  // The first prompt looks free, and the next step is still no long one.
  StepPacer fresh({.stretch = 2.0});
  fresh.Observe(4, 0, machine.Time(4, 0));
  fresh.Observe(4, 8, machine.Time(4, 0));
  EXPECT_LE(fresh.PromptTokens(4), 64);
}

TEST(StepPacerTest, AloneAsManyAsFitTheTime) {
  StepPacer pacer({.max_tokens = 256, .min_alone = 32});
  EXPECT_EQ(pacer.PromptTokens(0), 32);
  for (int i = 0; i < 50; ++i) {
    pacer.Observe(0, 32, 32 * absl::Milliseconds(1));
  }
  EXPECT_NEAR(static_cast<double>(pacer.PromptTokens(0)), 100, 2);
  for (int i = 0; i < 50; ++i) {
    pacer.Observe(0, 100, 100 * absl::Microseconds(10));
  }
  EXPECT_EQ(pacer.PromptTokens(0), 256);
  for (int i = 0; i < 100; ++i) pacer.Observe(0, 32, absl::Seconds(3));
  EXPECT_EQ(pacer.PromptTokens(0), 32);
  // Whoever asks for short steps gets them.
  const StepPacer small({.max_tokens = 5});
  EXPECT_EQ(small.PromptTokens(0), 5);
}

TEST(StepPacerTest, GenerationIsMeasuredAgain) {
  Machine machine;
  StepPacer pacer({.stretch = 2.0});
  int without = 0;
  for (int step = 0; step < 650; ++step) {
    const int64_t tokens = pacer.PromptTokens(2);
    without += tokens == 0;
    pacer.Observe(2, tokens, machine.Time(2, tokens));
  }
  EXPECT_GE(without, 10);
  EXPECT_LE(without, 12);
  // Contexts have grown: steps may be longer now.
  pacer.Observe(2, 0, machine.Time(2, 0));
  const int64_t before = pacer.PromptTokens(2);
  machine.generated_us = 8000;
  for (int step = 0; step < 650; ++step) {
    const int64_t tokens = pacer.PromptTokens(2);
    pacer.Observe(2, tokens, machine.Time(2, tokens));
  }
  pacer.Observe(2, 0, machine.Time(2, 0));
  EXPECT_GT(pacer.PromptTokens(2), before * 3 / 2);
}

}  // namespace
}  // namespace conclave::engine
