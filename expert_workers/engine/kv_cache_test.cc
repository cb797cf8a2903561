#include "expert_workers/engine/kv_cache.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace conclave::engine {
namespace {

KvShape SmallShape() {
  return {.type = kernels::KvType::kF32,
          .num_layers = 2,
          .num_kv_heads = 1,
          .head_dim = 4};
}

// Writes a mark that names position and layer into a token's first K value.
void Mark(const KvCache& cache, const PageTable& table, int64_t layer,
          int64_t position, float mark) {
  const kernels::KvView view = cache.View(table, layer);
  auto* page =
      reinterpret_cast<float*>(view.pages[static_cast<size_t>(position / 32)]);
  page[(position % 32) * view.head_dim] = mark;
}

float ReadMark(const KvCache& cache, const PageTable& table, int64_t layer,
               int64_t position) {
  const kernels::KvView view = cache.View(table, layer);
  const auto* page = reinterpret_cast<const float*>(
      view.pages[static_cast<size_t>(position / 32)]);
  return page[(position % 32) * view.head_dim];
}

TEST(KvCacheTest, CountsPagesByTheBudget) {
  const KvShape shape = SmallShape();
  EXPECT_EQ(shape.PageBytes(), 2 * 2 * 1 * 32 * 4 * 4);
  KvCache cache(shape, 3 * shape.PageBytes() + 5);
  EXPECT_EQ(cache.total_pages(), 3);
  PageTable table;
  EXPECT_TRUE(cache.PrepareWrite(table, 0, 32));
  EXPECT_EQ(cache.used_pages(), 1);
  EXPECT_TRUE(cache.PrepareWrite(table, 32, 1));
  EXPECT_EQ(cache.used_pages(), 2);
  // All or nothing.
  EXPECT_FALSE(cache.PrepareWrite(table, 33, 64));
  EXPECT_EQ(cache.used_pages(), 2);
  EXPECT_EQ(table.num_pages(), 2);
  cache.Release(table);
  EXPECT_EQ(cache.used_pages(), 0);
  EXPECT_EQ(table.num_pages(), 0);
}

TEST(KvCacheTest, ForksShareFullPagesAndCopyTheLast) {
  const KvShape shape = SmallShape();
  KvCache cache(shape, 16 * shape.PageBytes());
  PageTable prompt;
  ASSERT_TRUE(cache.PrepareWrite(prompt, 0, 40));
  for (int64_t layer = 0; layer < 2; ++layer) {
    for (int64_t i = 0; i < 40; ++i) {
      Mark(cache, prompt, layer, i, static_cast<float>(100 * layer + i));
    }
  }
  PageTable other = cache.Fork(prompt);
  EXPECT_EQ(cache.used_pages(), 2);
  EXPECT_EQ(cache.References(prompt, 0), 2);

  // Both write position 40: the last page parts, the first stays shared.
  ASSERT_TRUE(cache.PrepareWrite(other, 40, 1));
  EXPECT_EQ(cache.used_pages(), 3);
  Mark(cache, other, 1, 40, -1);
  ASSERT_TRUE(cache.PrepareWrite(prompt, 40, 1));
  EXPECT_EQ(cache.used_pages(), 3);  // alone with its page again: no copy
  Mark(cache, prompt, 1, 40, -2);
  EXPECT_EQ(ReadMark(cache, other, 1, 40), -1);
  EXPECT_EQ(ReadMark(cache, prompt, 1, 40), -2);
  EXPECT_EQ(ReadMark(cache, other, 1, 39), 139);
  EXPECT_EQ(ReadMark(cache, other, 0, 35), 35);
  EXPECT_EQ(cache.References(prompt, 0), 2);
  EXPECT_EQ(cache.References(prompt, 1), 1);

  cache.Release(prompt);
  EXPECT_EQ(cache.used_pages(), 2);
  EXPECT_EQ(ReadMark(cache, other, 0, 5), 5);
  cache.Release(other);
  EXPECT_EQ(cache.used_pages(), 0);
}

TEST(KvCacheTest, APageComesBackEmpty) {
  const KvShape shape = SmallShape();
  KvCache cache(shape, shape.PageBytes());
  PageTable first;
  ASSERT_TRUE(cache.PrepareWrite(first, 0, 32));
  Mark(cache, first, 1, 7, 42.0f);
  cache.Release(first);
  PageTable second;
  ASSERT_TRUE(cache.PrepareWrite(second, 0, 1));
  EXPECT_EQ(ReadMark(cache, second, 1, 7), 0.0f);
  cache.Release(second);
}

TEST(KvCacheTest, APromiseIsKept) {
  const KvShape shape = SmallShape();
  KvCache cache(shape, 4 * shape.PageBytes());
  PageTable promised, other;
  ASSERT_TRUE(cache.Reserve(promised, 3));
  EXPECT_EQ(cache.used_pages(), 0);
  EXPECT_EQ(cache.available_pages(), 1);
  EXPECT_FALSE(cache.Reserve(other, 2));
  EXPECT_FALSE(cache.PrepareWrite(other, 0, 33));
  EXPECT_TRUE(cache.PrepareWrite(other, 0, 32));
  EXPECT_EQ(cache.available_pages(), 0);
  EXPECT_FALSE(cache.PrepareWrite(other, 32, 1));
  // Taking what was promised makes nothing less available.
  EXPECT_TRUE(cache.PrepareWrite(promised, 0, 33));
  EXPECT_EQ(promised.reserved(), 1);
  EXPECT_EQ(cache.used_pages(), 3);
  EXPECT_EQ(cache.available_pages(), 0);
  cache.Unreserve(promised, 1);
  EXPECT_EQ(cache.available_pages(), 1);
  EXPECT_FALSE(cache.PrepareWrite(promised, 33, 64));
  ASSERT_TRUE(cache.Reserve(promised, 1));
  PageTable fork = cache.Fork(promised);
  EXPECT_EQ(fork.reserved(), 0);
  EXPECT_EQ(cache.PagesOfItsOwn(promised), 1);  // the promise
  cache.Release(fork);
  EXPECT_EQ(cache.PagesOfItsOwn(promised), 3);
  cache.Release(promised);
  cache.Release(other);
  EXPECT_EQ(cache.available_pages(), 4);
}

// Gives up pages in the order in which they were kept.
class FirstKeptEvictor final : public PageEvictor {
 public:
  explicit FirstKeptEvictor(KvCache* cache) : cache_(cache) {
    cache->set_evictor(this);
  }
  void Keep(int32_t page) {
    cache_->Keep(page);
    kept_.push_back(page);
  }
  void FreeOne() override {
    for (size_t i = 0; i < kept_.size(); ++i) {
      if (!cache_->IsIdle(kept_[i])) continue;
      cache_->Drop(kept_[i]);
      kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(i));
      return;
    }
    FAIL() << "nothing is idle";
  }

 private:
  KvCache* const cache_;
  std::vector<int32_t> kept_;
};

TEST(KvCacheTest, IdlePagesAreAvailableAndGivenUpLast) {
  const KvShape shape = SmallShape();
  KvCache cache(shape, 3 * shape.PageBytes());
  FirstKeptEvictor evictor(&cache);
  PageTable table;
  ASSERT_TRUE(cache.PrepareWrite(table, 0, 64));
  Mark(cache, table, 1, 3, 7.0f);
  const int32_t first = table.page(0);
  evictor.Keep(first);
  evictor.Keep(table.page(1));
  EXPECT_EQ(cache.used_pages(), 2);
  EXPECT_EQ(cache.idle_pages(), 0);
  cache.Release(table);
  EXPECT_EQ(cache.used_pages(), 0);
  EXPECT_EQ(cache.idle_pages(), 2);
  EXPECT_EQ(cache.available_pages(), 3);
  // Found again: in use, with its content.
  PageTable hit;
  cache.Append(hit, first);
  EXPECT_EQ(cache.idle_pages(), 1);
  EXPECT_EQ(cache.available_pages(), 2);
  EXPECT_EQ(ReadMark(cache, hit, 1, 3), 7.0f);
  // Written to: a copy, for it is kept as it is.
  ASSERT_TRUE(cache.PrepareWrite(hit, 4, 1));
  Mark(cache, hit, 1, 4, 8.0f);
  EXPECT_NE(hit.page(0), first);
  EXPECT_EQ(ReadMark(cache, hit, 1, 3), 7.0f);
  EXPECT_EQ(cache.idle_pages(), 2);
  // All three are taken or kept: the next ones come from the idle.
  ASSERT_TRUE(cache.PrepareWrite(hit, 5, 60));
  EXPECT_EQ(cache.idle_pages(), 0);
  EXPECT_EQ(cache.used_pages(), 3);
  EXPECT_FALSE(cache.PrepareWrite(hit, 96, 1));
  cache.Release(hit);
  EXPECT_EQ(cache.available_pages(), 3);
}

TEST(KvCacheTest, AnEqualPageTakesAnothersPlace) {
  const KvShape shape = SmallShape();
  KvCache cache(shape, 4 * shape.PageBytes());
  PageTable a, b;
  ASSERT_TRUE(cache.PrepareWrite(a, 0, 32));
  ASSERT_TRUE(cache.PrepareWrite(b, 0, 40));
  Mark(cache, a, 1, 5, 1.5f);
  Mark(cache, b, 1, 5, 1.5f);
  EXPECT_EQ(cache.used_pages(), 3);
  cache.Replace(b, 0, a.page(0));
  EXPECT_EQ(cache.used_pages(), 2);
  EXPECT_EQ(cache.References(a, 0), 2);
  EXPECT_EQ(ReadMark(cache, b, 1, 5), 1.5f);
  cache.Replace(b, 0, a.page(0));  // nothing to do
  EXPECT_EQ(cache.References(a, 0), 2);
  cache.Release(a);
  EXPECT_EQ(ReadMark(cache, b, 1, 5), 1.5f);
  cache.Release(b);
  EXPECT_EQ(cache.used_pages(), 0);
}

// Random forks, growth and releases: what a table wrote is what it reads, and
// the count of used pages returns to zero.
TEST(KvCacheTest, RandomUseKeepsEveryTablesContent) {
  const KvShape shape = SmallShape();
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    KvCache cache(shape, 24 * shape.PageBytes());
    struct Model {
      PageTable table;
      std::vector<float> marks;
    };
    std::vector<Model> models(1);
    float next_mark = 1;
    int refusals = 0;
    for (int step = 0; step < 400; ++step) {
      const size_t pick = random() % models.size();
      const auto kind = random() % 10;
      if (kind < 7) {
        Model& m = models[pick];
        const auto first = static_cast<int64_t>(m.marks.size());
        const auto count = static_cast<int64_t>(random() % 40);
        if (!cache.PrepareWrite(m.table, first, count)) {
          ++refusals;
          cache.Release(m.table);
          m.marks.clear();
          continue;
        }
        for (int64_t i = first; i < first + count; ++i) {
          Mark(cache, m.table, 0, i, next_mark);
          m.marks.push_back(next_mark++);
        }
      } else if (kind < 9 && models.size() < 6) {
        models.push_back({cache.Fork(models[pick].table), models[pick].marks});
      } else if (models.size() > 1) {
        cache.Release(models[pick].table);
        models.erase(models.begin() + static_cast<std::ptrdiff_t>(pick));
      }
      for (const Model& m : models) {
        for (size_t i = 0; i < m.marks.size(); ++i) {
          ASSERT_EQ(ReadMark(cache, m.table, 0, static_cast<int64_t>(i)),
                    m.marks[i])
              << "seed " << seed << " step " << step;
        }
      }
    }
    EXPECT_GT(refusals, 0);
    for (Model& m : models) cache.Release(m.table);
    EXPECT_EQ(cache.used_pages(), 0);
  }
}

}  // namespace
}  // namespace conclave::engine
