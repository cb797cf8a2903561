// Keys and values of all running sequences, in pages of 32 tokens under a byte
// budget. One page holds its tokens for every layer, so that a sequence grows
// by whole pages or not at all.
//
//   page = num_layers x [2 (K, V)][num_kv_heads][32][head_dim]
//
// Pages are counted: answers to one prompt share its pages; who writes into a
// shared page gets a copy first (the last page of a prompt, when it is not
// full). Memory is taken when a page is first used and then kept. A page is
// zeroed when it is handed out: nothing of its last user remains.
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

 private:
  friend class KvCache;
  std::vector<int32_t> pages_;
  // [layer][page]: what a KvView's span points to.
  std::vector<std::vector<std::byte*>> addresses_;
};

class KvCache {
 public:
  KvCache(const KvShape& shape, int64_t budget_bytes);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  const KvShape& shape() const { return shape_; }
  int64_t total_pages() const { return total_pages_; }
  int64_t used_pages() const { return used_pages_; }
  int64_t free_pages() const { return total_pages_ - used_pages_; }

  // Makes positions [first, first + count) of `table` writable: appends pages,
  // copies shared ones. All or nothing: false when there are too few pages.
  // `first` lies at most one past the positions already there.
  bool PrepareWrite(PageTable& table, int64_t first, int64_t count);

  // The same pages again, shared.
  PageTable Fork(const PageTable& table);
  // Gives back every page of `table`, which is empty then.
  void Release(PageTable& table);

  // Valid until `table` next changes.
  kernels::KvView View(const PageTable& table, int64_t layer) const;

  // How many tables hold this page of `table`.
  int References(const PageTable& table, int64_t page) const;

 private:
  struct Page {
    std::byte* data = nullptr;
    int references = 0;
  };

  int32_t TakePage();
  void SetPage(PageTable& table, int64_t index, int32_t page);

  const KvShape shape_;
  const int64_t total_pages_;
  int64_t used_pages_ = 0;
  std::vector<Page> pages_;         // grows up to total_pages_
  std::vector<int32_t> free_list_;  // indices of pages with no references
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_KV_CACHE_H_
