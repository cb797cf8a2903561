#include "expert_workers/engine/kv_cache.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/check.h"

namespace conclave::engine {
namespace {

using kernels::kKvPageTokens;

constexpr size_t kAlignment = 64;  // a cache line; what the kernels load

std::byte* AllocatePage(int64_t bytes) {
  const size_t size =
      (static_cast<size_t>(bytes) + kAlignment - 1) & ~(kAlignment - 1);
  void* data = std::aligned_alloc(kAlignment, size);
  if (data == nullptr) throw std::bad_alloc();
  return static_cast<std::byte*>(data);
}

}  // namespace

KvCache::KvCache(const KvShape& shape, int64_t budget_bytes)
    : shape_(shape),
      // 2^30: page numbers are 32 bits.
      total_pages_(std::clamp<int64_t>(budget_bytes / shape.PageBytes(), 0,
                                       int64_t{1} << 30)) {
  CHECK(shape.PageBytes() > 0);
}

KvCache::~KvCache() {
  for (const Page& page : pages_) std::free(page.data);
}

bool KvCache::PrepareWrite(PageTable& table, int64_t first, int64_t count) {
  CHECK(first >= 0 && count >= 0 &&
            first <= table.num_pages() * kKvPageTokens,
        "first {} count {} pages {}", first, count, table.num_pages());
  if (count == 0) return true;
  const int64_t first_page = first / kKvPageTokens;
  const int64_t end_page = PagesForTokens(first + count);
  const int64_t had = table.num_pages();
  int64_t needed = std::max<int64_t>(end_page - had, 0);
  for (int64_t i = first_page; i < std::min(end_page, had); ++i) {
    if (References(table, i) > 1) ++needed;
  }
  if (needed > free_pages()) return false;

  table.addresses_.resize(static_cast<size_t>(shape_.num_layers));
  for (int64_t i = first_page; i < std::min(end_page, had); ++i) {
    const int32_t old = table.pages_[static_cast<size_t>(i)];
    if (pages_[static_cast<size_t>(old)].references == 1) continue;
    const int32_t fresh = TakePage();
    std::memcpy(pages_[static_cast<size_t>(fresh)].data,
                pages_[static_cast<size_t>(old)].data,
                static_cast<size_t>(shape_.PageBytes()));
    --pages_[static_cast<size_t>(old)].references;
    SetPage(table, i, fresh);
  }
  for (int64_t i = had; i < end_page; ++i) {
    const int32_t fresh = TakePage();
    table.pages_.push_back(fresh);
    for (auto& layer : table.addresses_) layer.push_back(nullptr);
    SetPage(table, i, fresh);
  }
  return true;
}

PageTable KvCache::Fork(const PageTable& table) {
  for (const int32_t page : table.pages_) {
    ++pages_[static_cast<size_t>(page)].references;
  }
  return table;
}

void KvCache::Release(PageTable& table) {
  for (const int32_t index : table.pages_) {
    Page& page = pages_[static_cast<size_t>(index)];
    CHECK(page.references > 0, "page {}", index);
    if (--page.references == 0) {
      free_list_.push_back(index);
      --used_pages_;
    }
  }
  table = PageTable();
}

kernels::KvView KvCache::View(const PageTable& table, int64_t layer) const {
  kernels::KvView view;
  view.type = shape_.type;
  view.num_kv_heads = shape_.num_kv_heads;
  view.head_dim = shape_.head_dim;
  if (!table.addresses_.empty()) {
    view.pages = table.addresses_[static_cast<size_t>(layer)];
  }
  return view;
}

int KvCache::References(const PageTable& table, int64_t page) const {
  const int32_t index = table.pages_[static_cast<size_t>(page)];
  return pages_[static_cast<size_t>(index)].references;
}

int32_t KvCache::TakePage() {
  CHECK(used_pages_ < total_pages_);
  int32_t index = 0;
  if (free_list_.empty()) {
    index = static_cast<int32_t>(pages_.size());
    pages_.push_back({AllocatePage(shape_.PageBytes()), 0});
  } else {
    index = free_list_.back();
    free_list_.pop_back();
  }
  Page& page = pages_[static_cast<size_t>(index)];
  std::memset(page.data, 0, static_cast<size_t>(shape_.PageBytes()));
  page.references = 1;
  ++used_pages_;
  return index;
}

void KvCache::SetPage(PageTable& table, int64_t index, int32_t page) {
  table.pages_[static_cast<size_t>(index)] = page;
  std::byte* data = pages_[static_cast<size_t>(page)].data;
  for (auto& layer : table.addresses_) {
    layer[static_cast<size_t>(index)] = data;
    data += shape_.LayerBytes();
  }
}

}  // namespace conclave::engine
