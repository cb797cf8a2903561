#include "router_service/classify/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

namespace conclave::router {
namespace {

double Uniform(std::mt19937_64* random) {
  return double((*random)() >> 11) * 0x1p-53;
}

// Scores whose labels are drawn from softmax(sharpness * scores).
std::vector<Judged> Draw(int count, double sharpness, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<Judged> judged;
  for (int i = 0; i < count; ++i) {
    Judged one;
    double sum = 0;
    for (int c = 0; c < 5; ++c) {
      one.scores.scores.push_back(static_cast<float>(2 * Uniform(&random)));
      sum += std::exp(sharpness * one.scores.scores.back());
    }
    double drawn = Uniform(&random) * sum;
    while (one.label < 4) {
      drawn -= std::exp(sharpness * one.scores.scores[one.label]);
      if (drawn <= 0) break;
      ++one.label;
    }
    one.scores.familiarity = static_cast<float>(Uniform(&random));
    judged.push_back(one);
  }
  return judged;
}

TEST(CalibrationTest, FindsTheSharpnessThatMadeTheLabels) {
  for (double truth : {0.7, 2.0, 6.0}) {
    const Calibration fit = Calibration::Fit(Draw(4000, truth, 5), {});
    EXPECT_NEAR(fit.sharpness() / truth, 1, 0.12) << truth;
    EXPECT_LT(fit.calibration_error(), 0.03) << truth;
    EXPECT_EQ(fit.num_judged(), 4000u);
  }
}

TEST(CalibrationTest, FewPerfectJudgementsDoNotMakeCertain) {
  std::vector<Judged> judged(5);
  for (Judged& one : judged) one.scores.scores = {1.0f, -1.0f};
  const Calibration fit = Calibration::Fit(judged, {.sharpness = 1});
  EXPECT_LT(fit.sharpness(), 3);
  EXPECT_GT(fit.sharpness(), 1);
}

TEST(CalibrationTest, NothingJudgedLeavesThePrior) {
  const Calibration fit = Calibration::Fit({}, {.sharpness = 3});
  EXPECT_DOUBLE_EQ(fit.sharpness(), 3);
  EXPECT_NEAR(fit.Novelty(1), 0.5, 1e-12);  // the prior's middle
  EXPECT_TRUE(fit.Posterior({}).empty());
}

TEST(CalibrationTest, PosteriorSumsToOneForAnyScores) {
  std::mt19937_64 random(6);
  const Calibration fit = Calibration::Fit(Draw(50, 3, 1), {});
  for (int round = 0; round < 200; ++round) {
    std::vector<float> scores(1 + random() % 200);
    for (float& score : scores) {
      score = static_cast<float>((Uniform(&random) - 0.5) * 1e4);
    }
    const std::vector<double> p = fit.Posterior(scores);
    EXPECT_NEAR(std::accumulate(p.begin(), p.end(), 0.0), 1, 1e-12);
    for (double value : p) EXPECT_GE(value, 0);
  }
}

// In scope, novelty is uniform: that is what makes .95 mean one in twenty.
TEST(CalibrationTest, NoveltyIsUniformInScopeAndFallsWithFamiliarity) {
  const Calibration fit = Calibration::Fit(Draw(2000, 2, 7), {});
  int above = 0;
  for (const Judged& one : Draw(2000, 2, 8)) {
    above += fit.Novelty(one.scores.familiarity) > 0.95;
  }
  EXPECT_NEAR(above / 2000.0, 0.05, 0.02);
  double last = 1.1;
  for (double familiarity = -5; familiarity < 5; familiarity += 0.01) {
    const double novelty = fit.Novelty(familiarity);
    ASSERT_LE(novelty, last);
    ASSERT_GE(novelty, 0);
    ASSERT_LE(novelty, 1);
    last = novelty;
  }
}

TEST(CalibrationTest, OutOfScopeRisesWithNovelty) {
  const Calibration fit = Calibration::Fit(Draw(500, 2, 7), {});
  EXPECT_LT(fit.OutOfScope(0.5), 1e-6);
  EXPECT_LT(fit.OutOfScope(0.9), 0.1);
  EXPECT_GT(fit.OutOfScope(1.0), 0.8);
}

TEST(CalibrationErrorTest, KnownValues) {
  CalibrationError error;
  EXPECT_EQ(error.Value(), 0);
  for (int i = 0; i < 10; ++i) error.Add(0.75, i < 5);
  EXPECT_NEAR(error.Value(), 0.25, 1e-12);
  for (int i = 0; i < 10; ++i) error.Add(1.0, true);
  EXPECT_NEAR(error.Value(), 0.125, 1e-12);
}

}  // namespace
}  // namespace conclave::router
