// Keys and values of all running sequences, in pages of 32 tokens under a byte
// budget. One page holds its tokens for every layer, so that a sequence grows
// by whole pages or not at all.
//
//   page = num_layers x (K [num_kv_heads][head_dim][32],
//                        V [num_kv_heads][32][head_dim])
//
// Pages are counted: answers to one prompt share its pages, and so do sequences
// that begin alike (prefix_cache.h); who writes into a shared page gets a copy
// first. Memory is taken when a page is first used and then kept. A page is
// zeroed when it is handed out: nothing of its last user remains.
//
//   free -> used by tables -> idle: only the prefix cache keeps it -> free
//
//   available = free + idle - reserved
//
// is what can still be promised. Reserve promises; nobody else is promised the
// same page, so that a write that was reserved always succeeds. Idle pages are
// freed through the evictor when no free page is left.
//
// Threads: none; the engine's own.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_KV_CACHE_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_KV_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/ops.h"

namespace conclave::engine {

struct KvShape {
  kernels::KvType type = kernels::KvType::kF16;
  int64_t num_layers = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;

  int64_t LayerBytes() const {
    return 2 * num_kv_heads * kernels::kKvPageTokens * head_dim *
           kernels::KvTypeBytes(type);
  }
  int64_t PageBytes() const { return num_layers * LayerBytes(); }
};

inline int64_t PagesForTokens(int64_t tokens) {
  return (tokens + kernels::kKvPageTokens - 1) / kernels::kKvPageTokens;
}

// One sequence's pages. Give it back with KvCache::Release.
class PageTable {
 public:
  int64_t num_pages() const { return static_cast<int64_t>(pages_.size()); }
  // The number of its page `index`, as Keep and Append take it.
  int32_t page(int64_t index) const {
    return pages_[static_cast<size_t>(index)];
  }
  int64_t reserved() const { return reserved_; }

 private:
  friend class KvCache;
  int64_t reserved_ = 0;  // pages promised and not yet taken
  std::vector<int32_t> pages_;
  // [layer][page]: what a KvView's span points to.
  std::vector<std::vector<std::byte*>> addresses_;
};

// Who keeps idle pages gives one up.
class PageEvictor {
 public:
  virtual ~PageEvictor() = default;
  // Drops one idle page; there is one.
  virtual void FreeOne() = 0;
};

class KvCache {
 public:
  KvCache(const KvShape& shape, int64_t budget_bytes);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  // nullptr: nobody keeps pages.
  void set_evictor(PageEvictor* evictor) { evictor_ = evictor; }

  const KvShape& shape() const { return shape_; }
  int64_t budget_bytes() const { return budget_bytes_; }
  int64_t total_pages() const { return total_pages_; }
  int64_t used_pages() const { return taken_pages_ - idle_pages_; }
  int64_t idle_pages() const { return idle_pages_; }
  int64_t available_pages() const {
    return total_pages_ - used_pages() - reserved_pages_;
  }

  // Promises `pages` more to `table`: its writes take them first. False when
  // fewer are available.
  bool Reserve(PageTable& table, int64_t pages);
  // Takes back a promise of `pages`.
  void Unreserve(PageTable& table, int64_t pages);

  // Makes positions [first, first + count) of `table` writable: appends pages,
  // copies shared ones. All or nothing: false when there are too few pages.
  // `first` lies at most one past the positions already there.
  bool PrepareWrite(PageTable& table, int64_t first, int64_t count);

  // The same pages again, shared; no promises.
  PageTable Fork(const PageTable& table);
  // Gives back every page of `table`, and what was promised to it.
  void Release(PageTable& table);

  // Shares `page`, which somebody holds or keeps: as the table's next, or
  // instead of its page `index`, whose content is the same.
  void Append(PageTable& table, int32_t page);
  void Replace(PageTable& table, int64_t index, int32_t page);

  // The prefix cache's own reference to a page, at most one.
  void Keep(int32_t page);
  void Drop(int32_t page);
  bool IsIdle(int32_t page) const;

  // Valid until `table` next changes.
  kernels::KvView View(const PageTable& table, int64_t layer) const;

  // How many hold this page of `table`, the prefix cache included.
  int References(const PageTable& table, int64_t page) const;
  // What releasing `table` would make available.
  int64_t PagesOfItsOwn(const PageTable& table) const;

 private:
  struct Page {
    std::byte* data = nullptr;
    int references = 0;
    bool kept = false;  // one of them is the prefix cache's
  };

  Page& at(int32_t page) { return pages_[static_cast<size_t>(page)]; }
  const Page& at(int32_t page) const {
    return pages_[static_cast<size_t>(page)];
  }
  int32_t TakePage();
  void AddReference(int32_t page);
  void DropReference(int32_t page);
  void AppendPage(PageTable& table, int32_t page);
  void SetPage(PageTable& table, int64_t index, int32_t page);

  const KvShape shape_;
  const int64_t budget_bytes_;
  const int64_t total_pages_;
  PageEvictor* evictor_ = nullptr;
  int64_t taken_pages_ = 0;  // somebody holds or keeps them
  int64_t idle_pages_ = 0;
  int64_t reserved_pages_ = 0;      // of all tables
  std::vector<Page> pages_;         // grows up to total_pages_
  std::vector<int32_t> free_list_;  // indices of pages with no references
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_KV_CACHE_H_
