#include "expert_workers/weights/record_pool.h"

#include <new>

#include "base/units.h"

namespace conclave::weights {
namespace {

// A record with its key and trailer.
constexpr auto kPooledBytes = static_cast<size_t>(4 * kMiB);
// Less than this is an index or a footer, and malloc's business.
constexpr auto kSmallBytes = static_cast<size_t>(64 * kKiB);
constexpr size_t kMaxIdle = 4;

// Stands before every block, because Deallocate is not told a size.
struct alignas(64) Header {
  bool pooled = false;
};

}  // namespace

RecordPool::~RecordPool() {
  for (void* buffer : idle_) ::operator delete (buffer, std::align_val_t{64});
}

void* RecordPool::Allocate(size_t size) {
  const bool pooled = size >= kSmallBytes && size <= kPooledBytes;
  void* buffer = nullptr;
  if (pooled) {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      buffer = idle_.back();
      idle_.pop_back();
    }
  }
  if (buffer == nullptr) {
    buffer = ::operator new (sizeof(Header) + (pooled ? kPooledBytes : size),
                             std::align_val_t{64});
  }
  auto* header = new (buffer) Header{.pooled = pooled};
  return header + 1;
}

void RecordPool::Deallocate(void* block) {
  Header* header = static_cast<Header*>(block) - 1;
  if (header->pooled) {
    const std::lock_guard lock(mutex_);
    if (idle_.size() < kMaxIdle) {
      idle_.push_back(header);
      return;
    }
  }
  ::operator delete (header, std::align_val_t{64});
}

}  // namespace conclave::weights
