#include "expert_workers/weights/unit_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace conclave::weights {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;

size_t PageUp(size_t n) { return (n + kPage - 1) / kPage * kPage; }

}  // namespace

int64_t UnitMemory::Footprint(int64_t bytes) {
  return static_cast<int64_t>(PageUp(static_cast<size_t>(bytes)));
}

absl::StatusOr<UnitMemory> UnitMemory::Allocate(
    int64_t bytes, std::vector<UnitMemory>* spare) {
  const size_t size = PageUp(static_cast<size_t>(bytes));
  if (size == 0) return UnitMemory();
  // Map too much, then give the unaligned ends back.
  const size_t reach = size + kHugePage;
  void* mapped = ::mmap(nullptr, reach, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    return ResourceExhausted("no memory for a unit of {} bytes: {}", bytes,
                             std::strerror(errno));
  }
  auto* start = static_cast<std::byte*>(mapped);
  const auto address = reinterpret_cast<uintptr_t>(start);
  const size_t head = (kHugePage - address % kHugePage) % kHugePage;
  if (head > 0) ::munmap(start, head);
  std::byte* data = start + head;
  const size_t tail = reach - head - size;
  if (tail > 0) ::munmap(data + size, tail);
  ::madvise(data, size, MADV_HUGEPAGE);  // A wish; failure changes nothing.
  UnitMemory memory;
  memory.data_ = data;
  memory.size_ = size;
  if (spare != nullptr) memory.TakePages(spare);
  return memory;
}

void UnitMemory::TakePages(std::vector<UnitMemory>* spare) {
  size_t taken = 0;
  while (size_ - taken >= kHugePage && !spare->empty()) {
    UnitMemory& donor = spare->back();
    const size_t bytes =
        std::min(size_ - taken, donor.size_) / kHugePage * kHugePage;
    if (bytes > 0) {
      // Replaces what was mapped here. A failure (too many mappings) leaves
      // both as they were: fresh pages do as well.
      if (::mremap(donor.data_, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
                   data_ + taken) == MAP_FAILED) {
        return;
      }
      taken += bytes;
      donor.data_ += bytes;
      donor.size_ -= bytes;
    }
    if (donor.size_ < kHugePage) {
      if (donor.size_ == 0) donor.data_ = nullptr;  // Nothing left to unmap.
      spare->pop_back();
    }
  }
}

void UnitMemory::Release() {
  if (data_ != nullptr) ::munmap(data_, size_);
  data_ = nullptr;
  size_ = 0;
}

}  // namespace conclave::weights
