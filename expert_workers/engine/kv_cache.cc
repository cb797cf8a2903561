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
      budget_bytes_(budget_bytes),
      // 2^30: page numbers are 32 bits.
      total_pages_(std::clamp<int64_t>(budget_bytes / shape.PageBytes(), 0,
                                       int64_t{1} << 30)) {
  CHECK(shape.PageBytes() > 0);
}

KvCache::~KvCache() {
  for (const Page& page : pages_) std::free(page.data);
}

bool KvCache::Reserve(PageTable& table, int64_t pages) {
  CHECK(pages >= 0, "pages {}", pages);
  if (pages > available_pages()) return false;
  table.reserved_ += pages;
  reserved_pages_ += pages;
  return true;
}

void KvCache::Unreserve(PageTable& table, int64_t pages) {
  CHECK(pages >= 0 && pages <= table.reserved_, "{} of {}", pages,
        table.reserved_);
  table.reserved_ -= pages;
  reserved_pages_ -= pages;
}

bool KvCache::PrepareWrite(PageTable& table, int64_t first, int64_t count) {
  CHECK(first >= 0 && count >= 0 && first <= table.num_pages() * kKvPageTokens,
        "first {} count {} pages {}", first, count, table.num_pages());
  if (count == 0) return true;
  const int64_t first_page = first / kKvPageTokens;
  const int64_t end_page = PagesForTokens(first + count);
  const int64_t had = table.num_pages();
  int64_t needed = std::max<int64_t>(end_page - had, 0);
  for (int64_t i = first_page; i < std::min(end_page, had); ++i) {
    if (References(table, i) > 1) ++needed;
  }
  const int64_t promised = std::min(needed, table.reserved_);
  if (needed - promised > available_pages()) return false;
  Unreserve(table, promised);

  for (int64_t i = first_page; i < std::min(end_page, had); ++i) {
    const int32_t old = table.page(i);
    if (at(old).references == 1) continue;
    const int32_t fresh = TakePage();
    std::memcpy(at(fresh).data, at(old).data,
                static_cast<size_t>(shape_.PageBytes()));
    DropReference(old);
    SetPage(table, i, fresh);
  }
  for (int64_t i = had; i < end_page; ++i) {
    const int32_t fresh = TakePage();
    std::memset(at(fresh).data, 0, static_cast<size_t>(shape_.PageBytes()));
    AppendPage(table, fresh);
  }
  return true;
}

PageTable KvCache::Fork(const PageTable& table) {
  for (const int32_t page : table.pages_) AddReference(page);
  PageTable fork = table;
  fork.reserved_ = 0;
  return fork;
}

void KvCache::Release(PageTable& table) {
  for (const int32_t page : table.pages_) DropReference(page);
  reserved_pages_ -= table.reserved_;
  table = PageTable();
}

void KvCache::Append(PageTable& table, int32_t page) {
  AddReference(page);
  AppendPage(table, page);
}

void KvCache::Replace(PageTable& table, int64_t index, int32_t page) {
  const int32_t old = table.page(index);
  if (old == page) return;
  AddReference(page);
  SetPage(table, index, page);
  DropReference(old);
}

void KvCache::Keep(int32_t page) {
  CHECK(!at(page).kept && at(page).references > 0, "page {}", page);
  at(page).kept = true;
  ++at(page).references;
}

void KvCache::Drop(int32_t page) {
  CHECK(at(page).kept, "page {}", page);
  if (IsIdle(page)) --idle_pages_;
  at(page).kept = false;
  DropReference(page);
}

bool KvCache::IsIdle(int32_t page) const {
  return at(page).kept && at(page).references == 1;
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
  return at(table.page(page)).references;
}

int64_t KvCache::PagesOfItsOwn(const PageTable& table) const {
  int64_t own = table.reserved_;
  for (const int32_t page : table.pages_) {
    own += at(page).references - (at(page).kept ? 1 : 0) == 1;
  }
  return own;
}

int32_t KvCache::TakePage() {
  if (taken_pages_ == total_pages_) {
    CHECK(idle_pages_ > 0 && evictor_ != nullptr, "{} pages, {} idle",
          total_pages_, idle_pages_);
    evictor_->FreeOne();
  }
  CHECK(taken_pages_ < total_pages_, "{} pages", total_pages_);
  int32_t index = 0;
  if (free_list_.empty()) {
    index = static_cast<int32_t>(pages_.size());
    pages_.push_back({AllocatePage(shape_.PageBytes()), 0, false});
  } else {
    index = free_list_.back();
    free_list_.pop_back();
  }
  at(index).references = 1;
  ++taken_pages_;
  return index;
}

void KvCache::AddReference(int32_t page) {
  CHECK(at(page).references > 0, "page {}", page);
  if (IsIdle(page)) --idle_pages_;
  ++at(page).references;
}

void KvCache::DropReference(int32_t page) {
  CHECK(at(page).references > 0, "page {}", page);
  if (--at(page).references == 0) {
    free_list_.push_back(page);
    --taken_pages_;
  } else if (IsIdle(page)) {
    ++idle_pages_;
  }
}

void KvCache::AppendPage(PageTable& table, int32_t page) {
  table.addresses_.resize(static_cast<size_t>(shape_.num_layers));
  table.pages_.push_back(page);
  for (auto& layer : table.addresses_) layer.push_back(nullptr);
  SetPage(table, table.num_pages() - 1, page);
}

void KvCache::SetPage(PageTable& table, int64_t index, int32_t page) {
  table.pages_[static_cast<size_t>(index)] = page;
  std::byte* data = at(page).data;
  for (auto& layer : table.addresses_) {
    layer[static_cast<size_t>(index)] = data;
    data += shape_.LayerBytes();
  }
}

}  // namespace conclave::engine
