#include "router_service/select/selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace conclave::router {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Categories = std::vector<std::string>;

const Categories kCode = {"code"};
const Categories kLaw = {"law"};
const Categories kAnything = {"general"};

ExpertView View(std::string_view name, const Categories& categories,
                double quality = 0, double cost = 0) {
  return {.name = name,
          .version = 1,
          .categories = categories,
          .quality = quality,
          .cost = cost};
}

std::vector<std::string> Names(const Selection& selection) {
  std::vector<std::string> names;
  for (const Choice& choice : selection.candidates) {
    names.push_back(choice.expert);
  }
  return names;
}

double NeverAsked() {
  ADD_FAILURE() << "no exploration, no random number";
  return 0;
}

Selection Choose(const std::vector<ExpertView>& experts,
                 std::string_view wanted = "code", SelectOptions options = {},
                 const QualityEstimates* estimates = nullptr) {
  return Select(experts, {{"code", 0.9}, {"general", 0.1}}, wanted, estimates,
                options, NeverAsked);
}

TEST(SelectTest, ServesFirstThenGeneralNeverStrangers) {
  const Selection selection =
      Choose({View("lawyer", kLaw, 1), View("chat", kAnything, 1),
              View("coder", kCode, 0.6)});
  EXPECT_THAT(Names(selection), ElementsAre("coder", "chat"));
  EXPECT_EQ(selection.why, "only coder serves it");
  EXPECT_EQ(selection.candidates[0].propensity, 1);
  EXPECT_EQ(selection.candidates[1].propensity, 0);
}

TEST(SelectTest, StrangersOnlyWhenNobodyElse) {
  const Selection selection = Choose({View("lawyer", kLaw)});
  EXPECT_THAT(Names(selection), ElementsAre("lawyer"));
  EXPECT_THAT(selection.why, HasSubstr("nobody serves code or general"));
}

TEST(SelectTest, NobodyServesItSoGeneralDoes) {
  const Selection selection =
      Choose({View("chat", kAnything), View("lawyer", kLaw)});
  EXPECT_THAT(Names(selection), ElementsAre("chat"));
  EXPECT_THAT(selection.why, HasSubstr("nobody serves code, so general does"));
}

TEST(SelectTest, NoExpertsNoCandidates) {
  EXPECT_TRUE(Choose({}).candidates.empty());
}

TEST(SelectTest, TiesGoToTheLowerNameAndAreStated) {
  const Selection selection = Choose({View("b", kCode), View("a", kCode)});
  EXPECT_THAT(Names(selection), ElementsAre("a", "b"));
  EXPECT_THAT(selection.why, HasSubstr("a and b score the same"));
}

TEST(SelectTest, CostDecidesBetweenLikeQualities) {
  EXPECT_THAT(
      Names(Choose({View("a", kCode, 0.80, 9), View("b", kCode, 0.79, 1)})),
      ElementsAre("b", "a"));
  EXPECT_THAT(
      Names(Choose({View("a", kCode, 0.95, 9), View("b", kCode, 0.5, 1)})),
      ElementsAre("a", "b"));
}

TEST(SelectTest, LimitPutsDearExpertsLast) {
  SelectOptions options;
  options.max_cost = 5;
  const Selection selection =
      Choose({View("dear", kCode, 1, 6), View("fair", kCode, 0.5, 5)}, "code",
             options);
  EXPECT_THAT(Names(selection), ElementsAre("fair", "dear"));
  EXPECT_THAT(selection.candidates[1].why, HasSubstr("over the limit of 5"));
  EXPECT_THAT(Choose({View("dear", kCode, 1, 6)}, "code", options).why,
              HasSubstr("nobody is within the cost limit"));
}

class Table final : public QualityEstimates {
 public:
  Observed Get(std::string_view category, std::string_view expert,
               uint64_t version) const override {
    return category == "code" && expert == "b" && version == 1 ? observed
                                                               : Observed{};
  }
  Observed observed;
};

TEST(SelectTest, FeedbackMovesTheChoiceOnlyWhenThereIsEnough) {
  Table table;
  const std::vector<ExpertView> experts = {View("a", kCode, 0.75),
                                           View("b", kCode, 0.6)};
  table.observed = {.score_sum = 2, .count = 2};
  EXPECT_EQ(Choose(experts, "code", {}, &table).candidates[0].expert, "a");
  table.observed = {.score_sum = 95, .count = 100};
  EXPECT_EQ(Choose(experts, "code", {}, &table).candidates[0].expert, "b");
}

TEST(QualityTest, ShrinksAndStaysInRange) {
  EXPECT_DOUBLE_EQ(ShrunkQuality({}, 0.7, 10), 0.7);
  EXPECT_DOUBLE_EQ(ShrunkQuality({.score_sum = 10, .count = 10}, 0.5, 10),
                   0.75);
  EXPECT_LE(ShrunkQuality({.score_sum = 1e9, .count = 3}, 0.5, 10), 1);
  EXPECT_GE(ShrunkQuality({.score_sum = -1e9, .count = 3}, 0.5, 10), 0);
  EXPECT_DOUBLE_EQ(
      ShrunkQuality({.score_sum = std::nan(""), .count = 3}, 0.5, 10), 0.5);
  EXPECT_DOUBLE_EQ(PriorQuality(7, Serves::kCategory, {}), 1);
  EXPECT_DOUBLE_EQ(PriorQuality(std::nan(""), Serves::kCategory, {}), 0.7);
}

// Propensities are what a long run shows.
TEST(SelectTest, PropensitiesAreExact) {
  std::mt19937_64 random(11);
  const auto uniform = [&] { return double(random() >> 11) * 0x1p-53; };
  SelectOptions options;
  options.epsilon = 0.3;
  const std::vector<ExpertView> experts = {
      View("a", kCode, 0.9), View("b", kCode, 0.5), View("c", kCode, 0.4),
      View("chat", kAnything, 0.9)};
  std::map<std::string, int> first;
  std::map<std::string, double> propensity;
  constexpr int kRounds = 100000;
  for (int i = 0; i < kRounds; ++i) {
    const Selection selection =
        Select(experts, {{"code", 1.0}}, "code", nullptr, options, uniform);
    ++first[selection.candidates[0].expert];
    double sum = 0;
    for (const Choice& choice : selection.candidates) {
      propensity[choice.expert] = choice.propensity;
      sum += choice.propensity;
    }
    ASSERT_NEAR(sum, 1, 1e-12);
  }
  EXPECT_NEAR(propensity["a"], 0.8, 1e-12);
  EXPECT_NEAR(propensity["b"], 0.1, 1e-12);
  EXPECT_EQ(propensity["chat"], 0);
  for (const auto& [name, count] : first) {
    EXPECT_NEAR(double(count) / kRounds, propensity[name], 0.006) << name;
  }
}

TEST(SelectTest, OrderOfExpertsDoesNotMatter) {
  std::mt19937 random(3);
  std::vector<std::string> names;
  for (int i = 0; i < 30; ++i) names.push_back("e" + std::to_string(i));
  std::vector<ExpertView> experts;
  for (int i = 0; i < 30; ++i) {
    experts.push_back(View(names[i], i % 3 == 0 ? kCode : kAnything,
                           0.1 * double(random() % 10), double(random() % 4)));
  }
  const Selection expected = Choose(experts);
  EXPECT_EQ(expected.candidates.size(), SelectOptions().max_candidates);
  for (int round = 0; round < 50; ++round) {
    std::shuffle(experts.begin(), experts.end(), random);
    const Selection got = Choose(experts);
    ASSERT_EQ(Names(got), Names(expected));
    ASSERT_EQ(got.why, expected.why);
  }
}

}  // namespace
}  // namespace conclave::router
