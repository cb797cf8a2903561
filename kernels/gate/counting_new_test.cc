// Counts what this test binary allocates, for the tests that say "nothing".
// A file of its own: where new and delete are inlined, gcc warns of the pair.
#include <cstdint>
#include <cstdlib>
#include <new>

namespace conclave::kernels {
extern int64_t num_allocations;
int64_t num_allocations = 0;
}  // namespace conclave::kernels

void* operator new(size_t size) {
  ++conclave::kernels::num_allocations;
  if (void* p = std::malloc(size)) return p;
  std::abort();
}
// Under AddressSanitizer this one is another allocator's unless it is ours.
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  ++conclave::kernels::num_allocations;
  return std::malloc(size);
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
