#include "expert_workers/engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace conclave::engine {
namespace {

TEST(StopMatcherTest, WithoutStopsEverythingPasses) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.Push("abc"), "abc");
  EXPECT_EQ(matcher.Finish(), "");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcherTest, AcrossBorders) {
  StopMatcher matcher({"\n\nUser:"});
  EXPECT_EQ(matcher.Push("Hi"), "Hi");
  EXPECT_EQ(matcher.Push("\n"), "");
  EXPECT_EQ(matcher.Push("\nUs"), "");
  EXPECT_EQ(matcher.Push("er: more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.Push("after"), "");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopMatcherTest, FalseAlarmsAreReleasedInOrder) {
  StopMatcher matcher({"aab"});
  EXPECT_EQ(matcher.Push("a"), "");
  EXPECT_EQ(matcher.Push("a"), "");
  EXPECT_EQ(matcher.Push("a"), "a");  // "aa" may still begin it
  EXPECT_EQ(matcher.Push("c"), "aac");
  EXPECT_EQ(matcher.Push("xa"), "x");
  EXPECT_EQ(matcher.Finish(), "a");
}

TEST(StopMatcherTest, TheEarliestMatchCounts) {
  StopMatcher matcher({"world", "lo"});
  EXPECT_EQ(matcher.Push("hello world"), "hel");
  EXPECT_TRUE(matcher.stopped());
}

// Whatever the cuts, what is shown is the text before the first place where a
// stop string is complete; nothing shown is ever taken back.
TEST(StopMatcherTest, AnyCutShowsTheSame) {
  std::mt19937 random(5);
  int stopped = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    const std::string stop = [&] {
      std::string s;
      const auto length = 1 + random() % 5;
      for (size_t i = 0; i < length; ++i) {
        s += static_cast<char>('a' + random() % 2);
      }
      return s;
    }();
    std::string text;
    for (int i = 0; i < 30; ++i) {
      text += static_cast<char>('a' + random() % 2);
    }
    StopMatcher matcher({stop});
    std::string shown;
    for (size_t at = 0; at < text.size() && !matcher.stopped();) {
      const size_t count = 1 + random() % 6;
      shown += matcher.Push(text.substr(at, count));
      at += count;
    }
    const size_t match = text.find(stop);
    EXPECT_EQ(matcher.stopped(), match != std::string::npos);
    if (!matcher.stopped()) shown += matcher.Finish();
    EXPECT_EQ(shown, text.substr(0, match)) << stop;
    stopped += matcher.stopped() ? 1 : 0;
  }
  EXPECT_GT(stopped, 100);
  EXPECT_LT(stopped, 2000);
}

}  // namespace
}  // namespace conclave::engine
