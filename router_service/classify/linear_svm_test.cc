#include "router_service/classify/linear_svm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "router_service/classify/row_ops.h"

namespace conclave::router {
namespace {

float Uniform(std::mt19937_64* random) {
  return static_cast<float>((*random)() >> 40) * 0x1p-23f - 1;  // -1..1
}

TEST(RowOpsTest, FourRowsAreOneRowFourTimes) {
  std::mt19937_64 random(3);
  constexpr size_t kSize = 40;
  std::vector<float> rows[4], scale(4);
  for (int k = 0; k < 4; ++k) {
    scale[k] = Uniform(&random);
    for (size_t i = 0; i < kSize; ++i) rows[k].push_back(Uniform(&random));
  }
  std::vector<float> one(kSize, 0.5f), four = one, scalar = one;
  for (int k = 0; k < 4; ++k) {
    AddScaled(scale[k], rows[k].data(), one.data(), kSize);
    for (size_t i = 0; i < kSize; ++i) scalar[i] += scale[k] * rows[k][i];
  }
  AddScaled4(scale.data(), rows[0].data(), rows[1].data(), rows[2].data(),
             rows[3].data(), four.data(), kSize);
  EXPECT_EQ(one, scalar);
  EXPECT_EQ(four, scalar);
  EXPECT_NEAR(
      Dot(rows[0].data(), rows[1].data(), kSize),
      std::inner_product(rows[0].begin(), rows[0].end(), rows[1].begin(), 0.0),
      1e-5);
}

struct Problem {
  std::vector<RowVector> samples;
  std::vector<uint32_t> labels, use;
};

// Points in the plane around three corners, some on the wrong side.
Problem MakeProblem(int count) {
  std::mt19937_64 random(7);
  Problem problem;
  const float corners[3][2] = {{1, 0}, {-0.5f, 0.8f}, {-0.5f, -0.8f}};
  for (int i = 0; i < count; ++i) {
    const uint32_t label = i % 3;
    problem.use.push_back(i);
    problem.labels.push_back(label);
    problem.samples.push_back(
        {.rows = {0, 1},
         .values = {corners[label][0] + 0.7f * Uniform(&random),
                    corners[label][1] + 0.7f * Uniform(&random)}});
  }
  return problem;
}

// |w|^2 / 2 + C sum max(0, 1 - y (w.x))^2 of category 0, bias within w.
double Primal(const Problem& problem, const double w[3], double c) {
  double loss = (w[0] * w[0] + w[1] * w[1] + w[2] * w[2]) / 2;
  for (size_t i = 0; i < problem.samples.size(); ++i) {
    const auto& x = problem.samples[i].values;
    const double y = problem.labels[i] == 0 ? 1 : -1;
    const double margin = y * (w[0] * x[0] + w[1] * x[1] + w[2]);
    loss += c * std::pow(std::max(0.0, 1 - margin), 2);
  }
  return loss;
}

// Reads category 0's weights back out of the margins.
void WeightsOf(const LinearSvm& svm, double w[3]) {
  std::vector<float> margins;
  svm.Score({}, &margins);
  w[2] = margins[0];
  for (uint32_t axis : {0u, 1u}) {
    svm.Score({.rows = {axis}, .values = {1.0f}}, &margins);
    w[axis] = margins[0] - w[2];
  }
}

TEST(LinearSvmTest, NoNearbyPointIsBetter) {
  const Problem problem = MakeProblem(90);
  SvmOptions options;
  options.c = 0.5;
  options.max_epochs = 2000;
  options.tolerance = 1e-5;
  const LinearSvm svm = LinearSvm::Train(problem.samples, problem.labels,
                                         problem.use, 2, 3, options, nullptr);
  double w[3];
  WeightsOf(svm, w);
  const double best = Primal(problem, w, options.c);
  // Weights are rounded to 8 bits; every step of 2 % or more must be worse.
  for (int axis = 0; axis < 3; ++axis) {
    for (double step : {-0.04, 0.04}) {
      double moved[3] = {w[0], w[1], w[2]};
      moved[axis] += step;
      EXPECT_GT(Primal(problem, moved, options.c), best) << axis << step;
    }
  }
}

TEST(LinearSvmTest, AWarmStartComesToTheSamePlace) {
  const Problem problem = MakeProblem(90);
  SvmOptions options;
  options.max_epochs = 1000;
  options.tolerance = 1e-5;
  const LinearSvm cold = LinearSvm::Train(problem.samples, problem.labels,
                                          problem.use, 2, 3, options, nullptr);
  std::vector<float> alpha;
  const std::vector<uint32_t> some(problem.use.begin(),
                                   problem.use.begin() + 60);
  LinearSvm::Train(problem.samples, problem.labels, some, 2, 3, options,
                   &alpha);
  const LinearSvm warm = LinearSvm::Train(problem.samples, problem.labels,
                                          problem.use, 2, 3, options, &alpha);
  double a[3], b[3];
  WeightsOf(cold, a);
  WeightsOf(warm, b);
  for (int axis = 0; axis < 3; ++axis) EXPECT_NEAR(a[axis], b[axis], 0.02);
}

TEST(LinearSvmTest, SameSeedSameBitsAndStrangersPushAway) {
  const Problem problem = MakeProblem(60);
  const auto train = [&](std::span<const uint32_t> labels) {
    const LinearSvm svm = LinearSvm::Train(problem.samples, labels, problem.use,
                                           2, 3, {}, nullptr);
    std::vector<float> margins;
    svm.Score(problem.samples[0], &margins);
    return margins;
  };
  EXPECT_EQ(train(problem.labels), train(problem.labels));
  std::vector<uint32_t> strangers = problem.labels;
  for (uint32_t& label : strangers) {
    if (label == 0) label = LinearSvm::kNone;
  }
  EXPECT_LT(train(strangers)[0], -0.5f);
}

TEST(LinearSvmTest, RareCategoriesWeighMore) {
  const std::vector<uint32_t> labels = {
      0, 0, 0, 0, 0, 0, 1, 1, LinearSvm::kNone};
  std::vector<uint32_t> use(labels.size());
  std::iota(use.begin(), use.end(), 0u);
  EXPECT_EQ(RarityWeights(labels, use, 2), (std::vector<float>{1, 2}));
  EXPECT_EQ(RarityWeights(labels, use, 3)[2], 1);
  // A heavier category gives less ground in the overlap.
  const Problem problem = MakeProblem(60);
  const auto margin = [&](float weight) {
    SvmOptions options;
    options.positive_weight = {weight, 1, 1};
    std::vector<float> margins;
    LinearSvm::Train(problem.samples, problem.labels, problem.use, 2, 3,
                     options, nullptr)
        .Score({.rows = {0}, .values = {0.3f}}, &margins);
    return margins[0];
  };
  EXPECT_GT(margin(8), margin(1) + 0.1f);
}

TEST(LinearSvmTest, NothingToLearn) {
  const LinearSvm none = LinearSvm::Train({}, {}, {}, 0, 0, {}, nullptr);
  std::vector<float> margins = {1};
  none.Score({}, &margins);
  EXPECT_TRUE(margins.empty());
  const LinearSvm unfed = LinearSvm::Train({}, {}, {}, 5, 2, {}, nullptr);
  unfed.Score({.rows = {4}, .values = {1}}, &margins);
  EXPECT_EQ(margins, (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace conclave::router
