// Arrays that are read at random: every element's row starts where a cache
// line does, and from 2 MiB on they lie on huge pages where the system gives
// them on request. Reading 3,700 rows of a table of 17 MB, in order of the
// text, then waits for the cache alone, not for the page tables too.
#ifndef CONCLAVE_BASE_HUGE_ARRAY_H_
#define CONCLAVE_BASE_HUGE_ARRAY_H_

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <vector>

namespace conclave {

template <typename T>
struct HugeAllocator {
  using value_type = T;

  HugeAllocator() = default;
  template <typename U>
  HugeAllocator(const HugeAllocator<U>& /*other*/) {}

  T* allocate(size_t count) {
    const size_t bytes = count * sizeof(T);
    void* data = ::operator new(bytes, std::align_val_t(Alignment(bytes)));
    // Advice: where it is refused the array is only slower.
    if (bytes >= kHugePage) madvise(data, bytes, MADV_HUGEPAGE);
    return static_cast<T*>(data);
  }
  void deallocate(T* data, size_t count) {
    ::operator delete(data, std::align_val_t(Alignment(count * sizeof(T))));
  }
  template <typename U>
  bool operator==(const HugeAllocator<U>& /*other*/) const {
    return true;
  }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
  static size_t Alignment(size_t bytes) {
    return bytes >= kHugePage ? kHugePage : 64;
  }
};

template <typename T>
using HugeArray = std::vector<T, HugeAllocator<T>>;

}  // namespace conclave

#endif  // CONCLAVE_BASE_HUGE_ARRAY_H_
