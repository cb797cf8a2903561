#include "router_service/classify/classifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "router_service/classify/test_texts.h"

namespace conclave::router {
namespace {

using testing::ElementsAre;

std::shared_ptr<const Classifier> Learn(std::vector<LabelledText> samples) {
  return Classifier::Train(
      std::make_shared<const TrainingSet>(MakeTrainingSet(std::move(samples))));
}

std::vector<std::vector<float>> Vectors(const TrainingSet& set) {
  std::vector<std::vector<float>> vectors;
  for (const std::string& text : set.texts) {
    vectors.push_back(*Normalised(*FakeEmbed(text)));
  }
  return vectors;
}

Reading Read(const Classifier& classifier, std::string_view text) {
  const TextPart part{.text = text, .weight = 1};
  const Reading fast = classifier.ReadFast({&part, 1});
  if (!classifier.has_encoder()) return fast;
  return classifier.ReadBoth(fast, *Normalised(*FakeEmbed(text)));
}

std::string Top(const Classifier& classifier, const Reading& reading) {
  return classifier.categories()[std::max_element(reading.posterior.begin(),
                                                  reading.posterior.end()) -
                                 reading.posterior.begin()];
}

double Accuracy(const Classifier& classifier,
                const std::vector<LabelledText>& texts) {
  double right = 0;
  for (const LabelledText& text : texts) {
    right += Top(classifier, Read(classifier, text.text)) == text.category;
  }
  return right / double(texts.size());
}

void CheckReading(const Reading& reading) {
  if (!reading.posterior.empty()) {
    ASSERT_NEAR(std::accumulate(reading.posterior.begin(),
                                reading.posterior.end(), 0.0),
                1, 1e-9);
  }
  for (double p : reading.posterior) {
    ASSERT_GE(p, 0);
    ASSERT_LE(p, 1);
  }
  ASSERT_GE(reading.novelty, 0);
  ASSERT_LE(reading.novelty, 1);
  ASSERT_GE(reading.out_of_scope, 0);
  ASSERT_LE(reading.out_of_scope, 1);
}

TEST(TrainingSetTest, OrderAndRepetitionDoNotMatter) {
  std::vector<LabelledText> samples = MakeWorld(3, 10, 1);
  const TrainingSet expected = MakeTrainingSet(samples);
  samples.insert(samples.end(), samples.begin(), samples.begin() + 7);
  std::mt19937 random(2);
  std::shuffle(samples.begin(), samples.end(), random);
  const TrainingSet got = MakeTrainingSet(samples);
  EXPECT_EQ(got.version, expected.version);
  EXPECT_EQ(got.texts, expected.texts);
  EXPECT_EQ(got.labels, expected.labels);
}

TEST(TrainingSetTest, VersionTellsSetsApart) {
  EXPECT_NE(MakeTrainingSet({{"ab", "c"}}).version,
            MakeTrainingSet({{"a", "bc"}}).version);
  EXPECT_NE(MakeTrainingSet({{"a", "x"}}).version,
            MakeTrainingSet({{"a", "y"}}).version);
}

TEST(TrainingSetTest, DropsWhatTeachesNothing) {
  const TrainingSet set =
      MakeTrainingSet({{"", "c"}, {"a", ""}, {"a", "c"}, {"a", "d"}});
  EXPECT_THAT(set.categories, ElementsAre("c", "d"));
  EXPECT_EQ(set.texts.size(), 2u);
}

TEST(TrainingSetTest, FoldsShareOutEverySample) {
  for (int count : {1, 7, 60, 150, 400}) {
    const TrainingSet set = MakeTrainingSet(MakeWorld(3, count, 4));
    const Folds folds = MakeFolds(set);
    size_t judged = 0;
    for (uint32_t fold = 0; fold < folds.num_judged; ++fold) {
      const auto inside = SamplesOfFold(folds, fold, true);
      const auto outside = SamplesOfFold(folds, fold, false);
      EXPECT_EQ(inside.size() + outside.size(), set.texts.size());
      judged += inside.size();
    }
    EXPECT_EQ(judged, folds.num_judged > 1 ? set.texts.size()
                                           : (set.texts.size() + 4) / 5);
  }
}

TEST(ClassifierTest, LearnsBothTiers) {
  const auto fast = Learn(MakeWorld(6, 12, 3));
  const auto both =
      Classifier::WithEncoder(fast, Vectors(fast->training_set()));
  const std::vector<LabelledText> unseen = MakeWorld(6, 30, 99);
  EXPECT_GT(Accuracy(*fast, unseen), 0.9);
  EXPECT_GT(Accuracy(*both, unseen), 0.9);
  EXPECT_GT(fast->report(Tier::kNgram).accuracy, 0.85);
  EXPECT_EQ(fast->report(Tier::kNgram).num_judged, 72u);
  EXPECT_EQ(fast->report(Tier::kEncoder).num_judged, 0u);
  EXPECT_GT(both->report(Tier::kEncoder).accuracy, 0.85);
  EXPECT_EQ(fast->num_samples(0), 12u);
  EXPECT_NE(fast->version(), both->version());
}

// Above a thousand samples: one judging fold and a warm start.
TEST(ClassifierTest, LearnsFromManySamples) {
  const auto fast = Learn(MakeWorld(6, 250, 3));
  const auto both =
      Classifier::WithEncoder(fast, Vectors(fast->training_set()));
  const std::vector<LabelledText> unseen = MakeWorld(6, 30, 99);
  EXPECT_GT(Accuracy(*fast, unseen), 0.95);
  EXPECT_GT(Accuracy(*both, unseen), 0.95);
  EXPECT_LT(fast->report(Tier::kNgram).calibration_error, 0.1);
}

TEST(ClassifierTest, SameSamplesInAnyOrderGiveTheSameBits) {
  std::vector<LabelledText> samples = MakeWorld(4, 9, 5);
  const auto a = Learn(samples);
  std::reverse(samples.begin(), samples.end());
  const auto b = Learn(samples);
  const auto a2 = Classifier::WithEncoder(a, Vectors(a->training_set()));
  const auto b2 = Classifier::WithEncoder(b, Vectors(b->training_set()));
  for (const LabelledText& text : MakeWorld(4, 5, 77)) {
    EXPECT_EQ(Read(*a, text.text).posterior, Read(*b, text.text).posterior);
    EXPECT_EQ(Read(*a, text.text).novelty, Read(*b, text.text).novelty);
    EXPECT_EQ(Read(*a2, text.text).posterior, Read(*b2, text.text).posterior);
    EXPECT_EQ(Read(*a2, text.text).novelty, Read(*b2, text.text).novelty);
  }
}

TEST(ClassifierTest, ExtendServesANewCategoryAndKeepsTheOthers) {
  std::vector<LabelledText> samples = MakeWorld(6, 40, 3);
  std::vector<LabelledText> old_samples;
  for (const LabelledText& sample : samples) {
    if (sample.category != "c2") old_samples.push_back(sample);
  }
  const auto before = Learn(old_samples);
  const auto set =
      std::make_shared<const TrainingSet>(MakeTrainingSet(samples));
  const auto extended = Classifier::Extend(*before, set);
  ASSERT_NE(extended, nullptr);
  EXPECT_TRUE(extended->provisional());
  EXPECT_EQ(extended->categories(), set->categories);
  EXPECT_GT(Accuracy(*extended, MakeWorld(6, 30, 99)), 0.9);
  EXPECT_NE(extended->version(), Learn(samples)->version());
  // A removed category, too.
  const auto smaller = Classifier::Extend(
      *Learn(samples),
      std::make_shared<const TrainingSet>(MakeTrainingSet(old_samples)));
  ASSERT_NE(smaller, nullptr);
  EXPECT_EQ(smaller->categories().size(), 5u);
  EXPECT_EQ(Top(*smaller, Read(*smaller, "topic3x1 topic3x2 topic3x5")), "c3");
  // Nothing to build on.
  EXPECT_EQ(Classifier::Extend(*Learn({}), set), nullptr);
  EXPECT_EQ(Classifier::Extend(*extended, set), nullptr);
}

TEST(ClassifierTest, StrangeTextIsNovel) {
  const auto fast = Learn(MakeWorld(5, 40, 6));
  const auto both =
      Classifier::WithEncoder(fast, Vectors(fast->training_set()));
  for (const auto& classifier : {fast, both}) {
    double familiar = 0;
    const std::vector<LabelledText> unseen = MakeWorld(5, 20, 66);
    for (const LabelledText& text : unseen) {
      familiar += Read(*classifier, text.text).novelty;
    }
    EXPECT_LT(familiar / double(unseen.size()), 0.65);
    const Reading strange = Read(*classifier, "Привет 東京 ∑∆∏ ваучер!");
    EXPECT_GT(strange.novelty, 0.97);
    EXPECT_GT(strange.out_of_scope, 0.5);
  }
}

TEST(ClassifierTest, NoSamplesNoParts) {
  const auto nothing = Learn({});
  const Reading reading = Read(*nothing, "hello");
  EXPECT_TRUE(reading.posterior.empty());
  EXPECT_EQ(reading.novelty, 1);
  EXPECT_EQ(reading.out_of_scope, 1);
  const auto something = Learn(MakeWorld(2, 5, 1));
  EXPECT_EQ(something->ReadFast({}).novelty, 1);
  CheckReading(something->ReadFast({}));
}

TEST(ClassifierTest, OneCategoryAndSingleSamples) {
  const auto one = Learn({{"tea please", "drinks"}});
  EXPECT_EQ(Read(*one, "tea").posterior, std::vector<double>{1.0});
  const auto singles =
      Learn({{"tea please", "drinks"}, {"sort a list", "code"}});
  EXPECT_EQ(Top(*singles, Read(*singles, "sort the list")), "code");
  const auto encoded =
      Classifier::WithEncoder(singles, Vectors(singles->training_set()));
  EXPECT_EQ(Top(*encoded, Read(*encoded, "some tea please")), "drinks");
  const auto one_encoded =
      Classifier::WithEncoder(one, Vectors(one->training_set()));
  CheckReading(Read(*one_encoded, "tea"));
}

TEST(ClassifierTest, HostileTexts) {
  const auto fast = Learn(MakeWorld(4, 10, 6));
  const auto both =
      Classifier::WithEncoder(fast, Vectors(fast->training_set()));
  std::mt19937 random(9);
  for (size_t size : {0, 1, 2, 3, 100, 5000, 1 << 20}) {
    for (int round = 0; round < (size > 5000 ? 1 : 20); ++round) {
      std::string text(size, '\0');
      for (char& c : text) c = static_cast<char>(random());
      CheckReading(Read(*both, text));
      CheckReading(Read(*fast, text));
    }
  }
}

TEST(ClassifierTest, PartsCountByWeight) {
  const auto fast = Learn(MakeWorld(2, 20, 8));
  const std::string of_0 = "topic0x1 topic0x2 topic0x3";
  const std::string of_1 = "topic1x1 topic1x2 topic1x3";
  const TextPart mostly_0[] = {{.text = of_0, .weight = 1},
                               {.text = of_1, .weight = 0.2}};
  const TextPart mostly_1[] = {{.text = of_0, .weight = 0.2},
                               {.text = of_1, .weight = 1}};
  EXPECT_EQ(Top(*fast, fast->ReadFast(mostly_0)), "c0");
  EXPECT_EQ(Top(*fast, fast->ReadFast(mostly_1)), "c1");
}

}  // namespace
}  // namespace conclave::router
