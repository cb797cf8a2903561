#include "router_service/embed/ngram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>

#include "router_service/embed/normal_text.h"

namespace conclave::router {
namespace {

TEST(NormalTextTest, FoldsCaseAndCollapsesSpace) {
  EXPECT_EQ(Normalize("  Hello,\t\n World ").bytes, " hello, world ");
  EXPECT_EQ(Normalize("ÀÉÎ ΣΑΣ Ж").bytes, " àéî σασ ж ");
  EXPECT_EQ(Normalize("a\xc2\xa0"
                      "b\x01"
                      "c")
                .bytes,
            " a b c ");
  EXPECT_EQ(Normalize("").bytes, "");
  EXPECT_EQ(Normalize(" \n\t ").bytes, "");
}

TEST(NormalTextTest, ReplacesInvalidUtf8) {
  EXPECT_EQ(Normalize("a\xff"
                      "b")
                .bytes,
            " a\xef\xbf\xbd"
            "b ");
  EXPECT_EQ(Normalize("\xc3").bytes, " \xef\xbf\xbd ");
  EXPECT_EQ(Normalize("\xed\xa0\x80").bytes.find("\xed\xa0"),
            std::string::npos);
}

std::vector<std::string> Words(std::string_view text) {
  const NormalText normal = Normalize(text);
  std::vector<std::string> words;
  for (const auto& span : normal.word_spans) {
    words.push_back(normal.bytes.substr(span.begin, span.end - span.begin));
  }
  return words;
}

TEST(NormalTextTest, FindsWords) {
  EXPECT_THAT(Words("int main(void) { snake_case++; }"),
              testing::ElementsAre("int", "main", "void", "snake_case"));
  EXPECT_THAT(Words("東京 abc"), testing::ElementsAre("東", "京", "abc"));
  EXPECT_THAT(Words("naïve café"), testing::ElementsAre("naïve", "café"));
}

// ASCII has a path of its own: whatever it makes of a text is what the other
// makes of it when one more word forces it there.
TEST(NormalTextTest, AsciiIsReadLikeAnyText) {
  std::mt19937 random(11);
  constexpr std::string_view kBytes = "aZ09_ \t\n.,;-\x7f\x01(";
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 40, '\0');
    for (char& c : text) c = kBytes[random() % kBytes.size()];
    const NormalText fast = Normalize(text);
    const NormalText slow = Normalize(text + " \xc3\xa9");  // and an é
    const std::string all = fast.bytes.empty() ? " " : fast.bytes;
    ASSERT_EQ(slow.bytes, all + "\xc3\xa9 ") << text;
    ASSERT_EQ(slow.word_spans.size(), fast.word_spans.size() + 1) << text;
    for (size_t i = 0; i < fast.word_spans.size(); ++i) {
      ASSERT_EQ(slow.word_spans[i].begin, fast.word_spans[i].begin) << text;
      ASSERT_EQ(slow.word_spans[i].end, fast.word_spans[i].end) << text;
    }
    ASSERT_EQ(fast.starts.size(), fast.bytes.size() + 1);
    for (size_t i = 0; i < fast.bytes.size(); ++i) {
      ASSERT_EQ(fast.starts[i], i);
      ASSERT_EQ(slow.starts[i], i);
    }
  }
}

// So do the n-grams: a text's features are among those of the text with more
// behind it, except the few that its end makes.
TEST(NgramTest, AsciiHasTheFeaturesOfAnyText) {
  const std::string text = "transfer 20 dollars from checking to savings";
  const NgramVector fast = ExtractNgrams(text);
  const NgramVector slow = ExtractNgrams(text + " caf\xc3\xa9");
  const std::set<uint32_t> all(slow.ids.begin(), slow.ids.end());
  EXPECT_GT(fast.ids.size(), 100u);
  for (const uint32_t id : fast.ids) EXPECT_TRUE(all.contains(id)) << id;
}

// The classifier weighs the two kinds apart, and cuts the list once.
TEST(NgramTest, CharactersComeBeforeWords) {
  const NgramVector vector =
      ExtractNgrams("what is the capital of r\xc3\xa9union, capital of what");
  EXPECT_TRUE(
      std::is_partitioned(vector.ids.begin(), vector.ids.end(),
                          [](uint32_t id) { return id < kFirstWordBucket; }));
  EXPECT_GE(vector.ids.back(), kFirstWordBucket);
}

TEST(NgramTest, EmptyTextHasNoFeatures) {
  EXPECT_TRUE(ExtractNgrams("").ids.empty());
  EXPECT_TRUE(ExtractNgrams("\x01 \n").ids.empty());
}

TEST(NgramTest, CountsAreDampened) {
  const NgramVector once = ExtractNgrams("tea");
  const NgramVector often = ExtractNgrams("tea tea tea tea");
  EXPECT_EQ(once.word_count, 1u);
  EXPECT_EQ(often.word_count, 4u);
  for (float value : once.values) EXPECT_EQ(value, 1.0f);
  EXPECT_FLOAT_EQ(*std::max_element(often.values.begin(), often.values.end()),
                  1.0f + std::log(4.0f));
}

TEST(NgramTest, SimilarTextsAreNear) {
  const auto a = ExtractNgrams("reverse a linked list in Rust");
  const auto b = ExtractNgrams("Reversing linked lists in rust?");
  const auto c = ExtractNgrams("what is the weather in Paris tomorrow");
  EXPECT_GT(Cosine(a, b), 0.4);
  EXPECT_LT(Cosine(a, c), 0.2);
  EXPECT_NEAR(Cosine(a, a), 1.0, 1e-6);
}

TEST(NgramTest, WordOrderMatters) {
  const auto a = ExtractNgrams("dog bites man");
  const auto b = ExtractNgrams("man bites dog");
  EXPECT_LT(Cosine(a, b), 0.999);
}

// The table of small texts and the direct one of large texts must agree.
TEST(NgramTest, LongTextHasTheFeaturesOfItsParts) {
  std::string text;
  for (int i = 0; i < 60000; ++i)
    text += "word" + std::to_string(i % 500) + " ";
  const NgramVector large = ExtractNgrams(text);
  std::string part;
  for (int i = 0; i < 1000; ++i) part += "word" + std::to_string(i % 500) + " ";
  const NgramVector small = ExtractNgrams(part);
  EXPECT_EQ(std::set(large.ids.begin(), large.ids.end()),
            std::set(small.ids.begin(), small.ids.end()));
  EXPECT_EQ(large.word_count, 60000u);
}

TEST(NgramTest, HostileBytesGiveDistinctIdsInRange) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::string text(random() % 3000, '\0');
    for (char& c : text) c = static_cast<char>(random());
    const NgramVector vector = ExtractNgrams(text);
    ASSERT_EQ(vector.ids.size(), vector.values.size());
    const std::set<uint32_t> distinct(vector.ids.begin(), vector.ids.end());
    ASSERT_EQ(distinct.size(), vector.ids.size());
    for (uint32_t id : vector.ids) ASSERT_LT(id, kNumBuckets);
    const NgramVector again = ExtractNgrams(text);
    ASSERT_EQ(again.ids, vector.ids);
    ASSERT_EQ(again.values, vector.values);
  }
}

TEST(NgramTest, OneMegabyte) {
  std::mt19937 random(8);
  std::string text(1 << 20, '\0');
  for (char& c : text) c = static_cast<char>(random());
  EXPECT_LE(ExtractNgrams(text).ids.size(), kNumBuckets);
}

}  // namespace
}  // namespace conclave::router
