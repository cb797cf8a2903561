#include "router_service/classify/live_classifier.h"

#include <absl/synchronization/notification.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "router_service/classify/test_texts.h"

namespace conclave::router {
namespace {

constexpr absl::Duration kLong = absl::Seconds(60);

LiveClassifier::MakeSet Of(std::vector<LabelledText> samples) {
  return [samples = std::move(samples)] {
    return std::make_shared<const TrainingSet>(MakeTrainingSet(samples));
  };
}

TEST(VectorCacheTest, EmbedsEachTextOnce) {
  VectorCache cache;
  const auto go_on = [] { return true; };
  ASSERT_TRUE(cache.Get({"a", "b", "a"}, FakeEmbed, go_on).ok());
  EXPECT_EQ(cache.num_embedded(), 2);
  const auto again = cache.Get({"b", "c"}, FakeEmbed, go_on);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(cache.num_embedded(), 3);
  EXPECT_EQ((*again)[0], *Normalised(*FakeEmbed("b")));
  cache.KeepOnly({"c"});
  EXPECT_EQ(cache.size(), 1u);
}

TEST(VectorCacheTest, RefusesBrokenEncoders) {
  VectorCache cache;
  const auto go_on = [] { return true; };
  const auto zero = [](std::string_view) {
    return absl::StatusOr<std::vector<float>>(std::vector<float>(4, 0.0f));
  };
  EXPECT_EQ(cache.Get({"a"}, zero, go_on).status().code(),
            absl::StatusCode::kInvalidArgument);
  const auto growing = [](std::string_view text) {
    return absl::StatusOr<std::vector<float>>(
        std::vector<float>(text.size(), 1.0f));
  };
  EXPECT_EQ(cache.Get({"a", "bb"}, growing, go_on).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(cache.Get({"zz"}, FakeEmbed, [] { return false; }).status().code(),
            absl::StatusCode::kCancelled);
}

TEST(LiveClassifierTest, ServesNothingThenFastThenBoth) {
  LiveClassifier live(FakeEmbed);
  EXPECT_TRUE(live.current()->categories().empty());
  live.Update(Of(MakeWorld(3, 8, 1)));
  ASSERT_TRUE(live.WaitForFast(kLong));
  EXPECT_EQ(live.current()->categories().size(), 3u);
  ASSERT_TRUE(live.WaitForAll(kLong));
  EXPECT_TRUE(live.current()->has_encoder());
}

TEST(LiveClassifierTest, ARegistrationEmbedsOnlyItsOwnSamples) {
  LiveClassifier live(FakeEmbed);
  const std::vector<LabelledText> samples = MakeWorld(4, 10, 1);
  live.Update(Of({samples.begin(), samples.begin() + 30}));
  ASSERT_TRUE(live.WaitForAll(kLong));
  const int64_t before = live.vectors().num_embedded();
  live.Update(Of(samples));
  ASSERT_TRUE(live.WaitForAll(kLong));
  EXPECT_EQ(live.vectors().num_embedded() - before, 10);
  EXPECT_EQ(live.current()->categories().size(), 4u);
  // The same samples again: the same classifier.
  const auto current = live.current();
  live.Update(Of(samples));
  ASSERT_TRUE(live.WaitForAll(kLong));
  EXPECT_EQ(live.current(), current);
}

TEST(LiveClassifierTest, WithoutEncoderTheFastTierIsAllThereIs) {
  LiveClassifier live(nullptr);
  live.Update(Of(MakeWorld(3, 8, 1)));
  ASSERT_TRUE(live.WaitForAll(kLong));
  EXPECT_FALSE(live.current()->has_encoder());
}

TEST(LiveClassifierTest, TheEncoderMayComeLate) {
  std::atomic<bool> up = false;
  LiveClassifier live(
      [&](std::string_view text) -> absl::StatusOr<std::vector<float>> {
        if (!up) return Unavailable("no worker has joined");
        return FakeEmbed(text);
      },
      absl::Milliseconds(5));
  live.Update(Of(MakeWorld(3, 8, 1)));
  ASSERT_TRUE(live.WaitForAll(kLong));
  EXPECT_FALSE(live.current()->has_encoder());
  EXPECT_EQ(live.encoder_error(), "no worker has joined");
  up = true;
  for (int i = 0; i < 4000 && !live.current()->has_encoder(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(live.current()->has_encoder());
}

// The encoder may be loading when an expert joins.
TEST(LiveClassifierTest, ABusyEncoderDelaysNoNewCategory) {
  absl::Notification asked, answer;
  LiveClassifier live([&](std::string_view text) {
    if (!asked.HasBeenNotified()) asked.Notify();
    answer.WaitForNotification();
    return FakeEmbed(text);
  });
  live.Update(Of(MakeWorld(1, 8, 1)));
  asked.WaitForNotification();
  live.Update(Of(MakeWorld(2, 8, 1)));
  EXPECT_TRUE(live.WaitForFast(kLong));
  EXPECT_EQ(live.current()->categories().size(), 2u);
  EXPECT_FALSE(live.current()->has_encoder());
  answer.Notify();
  ASSERT_TRUE(live.WaitForAll(kLong));
  EXPECT_EQ(live.current()->categories().size(), 2u);
  EXPECT_TRUE(live.current()->has_encoder());
}

// Readers never wait and never see a half-made classifier.
TEST(LiveClassifierTest, ReadersAndUpdatesAtOnce) {
  LiveClassifier live(FakeEmbed);
  std::atomic<bool> stop = false;
  std::vector<std::thread> readers;
  for (int t = 0; t < 3; ++t) {
    readers.emplace_back([&] {
      const TextPart part{.text = "topic1x1 common2 topic1x4", .weight = 1};
      while (!stop) {
        const auto classifier = live.current();
        const Reading reading = classifier->ReadFast({&part, 1});
        ASSERT_EQ(reading.posterior.size(), classifier->categories().size());
      }
    });
  }
  for (int i = 1; i <= 20; ++i) live.Update(Of(MakeWorld(1 + i % 5, 6, i)));
  EXPECT_TRUE(live.WaitForAll(kLong));
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(live.current()->categories().size(), 1u);
}

}  // namespace
}  // namespace conclave::router
