#include "expert_workers/engine/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace conclave::engine {
namespace {

KvShape Shape() {
  return {.type = kernels::KvType::kF32,
          .num_layers = 2,
          .num_kv_heads = 1,
          .head_dim = 2};
}

float* Slot(const KvCache& cache, const PageTable& table, int64_t position) {
  const kernels::KvView view = cache.View(table, 1);
  return reinterpret_cast<float*>(
             view.pages[static_cast<size_t>(position / 32)]) +
         position % 32;
}

// Stands for keys and values: depends on the tokens up to `position` alone.
float ContentAt(const Sequence& sequence, int64_t position) {
  uint32_t hash = 1;
  for (int64_t i = 0; i <= position; ++i) {
    hash = hash * 1000003u +
           static_cast<uint32_t>(sequence.tokens[static_cast<size_t>(i)]);
  }
  return static_cast<float>(hash >> 8);
}

class PrefixCacheTest : public testing::Test {
 protected:
  explicit PrefixCacheTest(int64_t pages = 64)
      : cache_(Shape(), pages * Shape().PageBytes()),
        prefixes_(std::make_unique<PrefixCache>(&cache_)) {}

  static std::unique_ptr<Sequence> Make(const std::string& tenant,
                                        std::vector<int32_t> tokens) {
    auto sequence = std::make_unique<Sequence>();
    sequence->tenant = tenant;
    sequence->tokens = std::move(tokens);
    return sequence;
  }
  static std::vector<int32_t> Count(int32_t first, int32_t count) {
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < count; ++i) tokens.push_back(first + i);
    return tokens;
  }

  // What a hit gave is what computing would have given.
  void Check(const Sequence& sequence) const {
    for (int64_t i = 0; i < sequence.computed; ++i) {
      ASSERT_EQ(*Slot(cache_, sequence.pages, i), ContentAt(sequence, i))
          << "position " << i;
    }
  }
  // False when there are too few pages.
  bool Compute(Sequence& sequence, int64_t end) {
    const int64_t count = end - sequence.computed;
    if (!cache_.PrepareWrite(sequence.pages, sequence.computed, count)) {
      return false;
    }
    for (int64_t i = sequence.computed; i < end; ++i) {
      *Slot(cache_, sequence.pages, i) = ContentAt(sequence, i);
    }
    sequence.computed = end;
    prefixes_->Learn(sequence);
    return true;
  }
  void End(Sequence& sequence) {
    prefixes_->LearnTail(sequence);
    prefixes_->Detach(sequence);
  }
  // Computes `tokens` to the end, and ends; returns how many were known.
  int64_t Run(const std::string& tenant, std::vector<int32_t> tokens) {
    const auto sequence = Make(tenant, std::move(tokens));
    prefixes_->Attach(*sequence, /*whole_pages=*/false);
    const int64_t known = sequence->computed;
    Check(*sequence);
    EXPECT_TRUE(Compute(*sequence, sequence->size()));
    Check(*sequence);
    End(*sequence);
    return known;
  }

  KvCache cache_;
  std::unique_ptr<PrefixCache> prefixes_;
};

TEST_F(PrefixCacheTest, FindsWhatBeginsAlike) {
  EXPECT_EQ(Run("a", Count(0, 70)), 0);
  EXPECT_EQ(prefixes_->stats().pages, 3);
  EXPECT_EQ(cache_.used_pages(), 0);
  EXPECT_EQ(cache_.idle_pages(), 3);
  // The next turn: all of it, in the middle of a page.
  std::vector<int32_t> next = Count(0, 70);
  next.insert(next.end(), 10, 999);
  EXPECT_EQ(Run("a", next), 70);
  // The longer end took the shorter one's place.
  EXPECT_EQ(prefixes_->stats().pages, 3);
  // The same again: one token is left to compute.
  EXPECT_EQ(Run("a", next), 79);
  // Another way out of the second page.
  std::vector<int32_t> other = Count(0, 40);
  other.insert(other.end(), 60, 7);
  EXPECT_EQ(Run("a", other), 40);
  EXPECT_EQ(Run("a", other), 99);
  EXPECT_EQ(Run("a", next), 79);  // still there
  EXPECT_EQ(Run("a", Count(1, 70)), 0);
}

TEST_F(PrefixCacheTest, ATenantNeverFindsAnothersText) {
  EXPECT_EQ(Run("a", Count(0, 100)), 0);
  EXPECT_EQ(Run("b", Count(0, 100)), 0);
  EXPECT_EQ(Run("", Count(0, 100)), 0);
  EXPECT_EQ(Run("a", Count(0, 100)), 99);
  EXPECT_EQ(Run("", Count(0, 100)), 99);
  EXPECT_EQ(prefixes_->stats().pages, 12);
}

TEST_F(PrefixCacheTest, WholePagesAndLimits) {
  Run("a", Count(0, 100));
  const auto sequence = Make("a", Count(0, 100));
  prefixes_->Attach(*sequence, /*whole_pages=*/true);
  EXPECT_EQ(sequence->computed, 96);
  EXPECT_EQ(sequence->pages.num_pages(), 3);
  prefixes_->Detach(*sequence);
  EXPECT_EQ(sequence->computed, 0);
  sequence->reusable = 50;
  prefixes_->Attach(*sequence, /*whole_pages=*/false);
  EXPECT_EQ(sequence->computed, 50);
  prefixes_->Detach(*sequence);
  sequence->reusable = 0;
  prefixes_->Attach(*sequence, /*whole_pages=*/false);
  EXPECT_EQ(sequence->computed, 0);
  EXPECT_EQ(sequence->pages.num_pages(), 0);
  // A page that is known to the last token still leaves one to compute.
  Run("a", Count(500, 64));
  const auto exact = Make("a", Count(500, 64));
  prefixes_->Attach(*exact, /*whole_pages=*/false);
  EXPECT_EQ(exact->computed, 63);
  prefixes_->Detach(*exact);
}

TEST_F(PrefixCacheTest, WhatTwoComputeAtOnceIsKeptOnce) {
  const auto a = Make("t", Count(0, 90));
  const auto b = Make("t", Count(0, 90));
  b->tokens[80] = -1;
  prefixes_->Attach(*a, false);
  prefixes_->Attach(*b, false);
  ASSERT_TRUE(Compute(*a, 40));
  ASSERT_TRUE(Compute(*b, 50));
  EXPECT_EQ(cache_.used_pages(), 3);  // the first page is one
  EXPECT_EQ(a->pages.page(0), b->pages.page(0));
  ASSERT_TRUE(Compute(*a, 90));
  // b goes on from where a is, instead of its own half page.
  ASSERT_TRUE(cache_.Reserve(b->pages, 1));
  prefixes_->Extend(*b);
  EXPECT_EQ(b->computed, 64);
  EXPECT_EQ(b->reused, 14);
  Check(*b);
  ASSERT_TRUE(Compute(*b, 90));
  Check(*b);
  Check(*a);
  EXPECT_EQ(cache_.used_pages(), 4);
  End(*a);
  End(*b);
  EXPECT_EQ(prefixes_->stats().pages, 4);
  EXPECT_EQ(prefixes_->stats().tokens_saved, 14);
}

TEST_F(PrefixCacheTest, ExtendTakesPagesInsteadOfPromises) {
  const auto a = Make("t", Count(0, 90));
  ASSERT_TRUE(Compute(*a, 90));
  const auto b = Make("t", Count(0, 90));
  ASSERT_TRUE(cache_.Reserve(b->pages, 3));
  ASSERT_TRUE(Compute(*b, 1));
  EXPECT_EQ(b->pages.reserved(), 2);
  prefixes_->Extend(*b);
  EXPECT_EQ(b->computed, 64);
  EXPECT_EQ(b->pages.reserved(), 1);
  Check(*b);
  b->reusable = 10;
  prefixes_->Extend(*b);  // no further
  EXPECT_EQ(b->computed, 64);
  End(*a);
  End(*b);
  EXPECT_EQ(cache_.available_pages(), 64);
}

class SmallPrefixCacheTest : public PrefixCacheTest {
 protected:
  SmallPrefixCacheTest() : PrefixCacheTest(6) {}
};

TEST_F(SmallPrefixCacheTest, TheLeastRecentlyUsedGoesFirstFromItsEnd) {
  Run("a", Count(0, 64));                 // 2 pages
  Run("a", Count(100, 64));               // 2 pages
  Run("b", Count(0, 64));                 // 2 pages: full
  EXPECT_EQ(Run("a", Count(0, 64)), 63);  // evicts one: of what is oldest now
  EXPECT_EQ(prefixes_->stats().evicted_pages, 1);
  const auto look = [&](const std::string& tenant, int32_t first) {
    const auto sequence = Make(tenant, Count(first, 64));
    prefixes_->Attach(*sequence, /*whole_pages=*/true);
    const int64_t known = sequence->computed;
    prefixes_->Detach(*sequence);
    return known;
  };
  EXPECT_EQ(look("b", 0), 32);
  EXPECT_EQ(look("a", 0), 32);  // 63 may come from it: one whole page
  EXPECT_EQ(look("a", 100), 32);
  // Its second page is the one that went.
  const auto sequence = Make("a", Count(100, 64));
  prefixes_->Attach(*sequence, /*whole_pages=*/false);
  EXPECT_EQ(sequence->computed, 32);
  // What is in use stays: this one's page, while the rest goes.
  const auto large = Make("c", Count(0, 160));
  ASSERT_TRUE(Compute(*large, 160));
  Check(*sequence);
  EXPECT_FALSE(Compute(*sequence, 64));
  EXPECT_EQ(look("b", 0), 0);
  EXPECT_EQ(look("a", 0), 0);
  EXPECT_EQ(cache_.idle_pages(), 0);
  End(*large);
  ASSERT_TRUE(Compute(*sequence, 64));
  End(*sequence);
  EXPECT_EQ(cache_.used_pages(), 0);
  EXPECT_EQ(cache_.available_pages(), 6);
}

// Short texts over two letters, so that everything collides with everything.
struct RandomTexts {
  std::mt19937 random;
  explicit RandomTexts(uint32_t seed) : random(seed) {}
  int64_t Below(uint32_t n) { return static_cast<int64_t>(random() % n); }
  std::string Tenant() { return Below(3) == 0 ? "x" : "y"; }
  std::vector<int32_t> Tokens() {
    // Mostly one letter: long common beginnings.
    std::vector<int32_t> tokens(static_cast<size_t>(1 + Below(130)), 0);
    for (int64_t i = Below(4); i > 0; --i) {
      tokens[static_cast<size_t>(Below(static_cast<uint32_t>(tokens.size())))] =
          1;
    }
    return tokens;
  }
};

// With room for all, a lookup finds exactly the longest beginning that its
// tenant ever computed.
TEST(PrefixCachePropertyTest, FindsTheLongestKnownBeginning) {
  struct Fixture : PrefixCacheTest {
    Fixture() : PrefixCacheTest(4096) {}
    void TestBody() override {}
    void Trial(uint32_t seed) {
      RandomTexts texts(seed);
      std::vector<std::pair<std::string, std::vector<int32_t>>> known;
      for (int i = 0; i < 60; ++i) {
        const std::string tenant = texts.Tenant();
        const std::vector<int32_t> tokens = texts.Tokens();
        int64_t longest = 0;
        for (const auto& [who, what] : known) {
          if (who != tenant) continue;
          const auto end = std::mismatch(what.begin(), what.end(),
                                         tokens.begin(), tokens.end());
          longest = std::max<int64_t>(longest, end.first - what.begin());
        }
        longest =
            std::min<int64_t>(longest, static_cast<int64_t>(tokens.size()) - 1);
        ASSERT_EQ(Run(tenant, tokens), longest) << "seed " << seed;
        known.emplace_back(tenant, tokens);
      }
      prefixes_.reset();
      ASSERT_EQ(cache_.available_pages(), cache_.total_pages());
      ASSERT_EQ(cache_.idle_pages(), 0);
    }
  };
  for (uint32_t seed = 0; seed < 30; ++seed) {
    Fixture fixture;
    fixture.Trial(seed);
  }
}

// Several sequences at a time in a cache that is too small: whatever a table
// shows is what computing would have given, and the count of pages is right.
TEST(PrefixCachePropertyTest, WhatIsFoundIsRightUnderPressure) {
  struct Fixture : PrefixCacheTest {
    explicit Fixture(int64_t pages) : PrefixCacheTest(pages) {}
    void TestBody() override {}
    void Trial(uint32_t seed) {
      RandomTexts texts(seed);
      std::vector<std::unique_ptr<Sequence>> live;
      for (int step = 0; step < 600; ++step) {
        if (live.size() < 4 && texts.Below(3) == 0) {
          auto sequence = Make(texts.Tenant(), texts.Tokens());
          prefixes_->Attach(*sequence, texts.Below(2) == 0);
          hits += sequence->computed > 0;
          live.push_back(std::move(sequence));
        }
        if (live.empty()) continue;
        const auto pick = static_cast<size_t>(
            texts.Below(static_cast<uint32_t>(live.size())));
        Sequence& sequence = *live[pick];
        if (texts.Below(4) == 0) prefixes_->Extend(sequence);
        const int64_t end =
            std::min(sequence.size(), sequence.computed + 1 + texts.Below(40));
        const bool done = sequence.uncomputed() > 0 && Compute(sequence, end);
        if (!done || sequence.uncomputed() == 0 || texts.Below(20) == 0) {
          End(sequence);
          live.erase(live.begin() + static_cast<std::ptrdiff_t>(pick));
        }
        for (const auto& each : live) Check(*each);
        ASSERT_GE(cache_.available_pages(), 0);
        ASSERT_LE(prefixes_->stats().pages,
                  cache_.used_pages() + cache_.idle_pages());
      }
      for (const auto& each : live) End(*each);
      ASSERT_EQ(cache_.used_pages(), 0);
      ASSERT_EQ(prefixes_->stats().pages, cache_.idle_pages());
      evicted += prefixes_->stats().evicted_pages;
    }
    int64_t hits = 0;
    int64_t evicted = 0;
  };
  int64_t hits = 0;
  int64_t evicted = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    Fixture fixture(5 + seed % 12);
    fixture.Trial(seed);
    hits += fixture.hits;
    evicted += fixture.evicted;
  }
  EXPECT_GT(hits, 1000);  // the test is about them
  EXPECT_GT(evicted, 1000);
}

}  // namespace
}  // namespace conclave::engine
