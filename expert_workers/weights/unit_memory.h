// Memory for one loaded unit: 2 MiB-aligned so that the kernel can use huge
// pages (3-13 % on reads from cold weights), given back on destruction. What it
// holds at first is unspecified.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_UNIT_MEMORY_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_UNIT_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"

namespace conclave::weights {

class UnitMemory {
 public:
  UnitMemory() = default;
  ~UnitMemory() { Release(); }
  UnitMemory(UnitMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  UnitMemory& operator=(UnitMemory&& other) noexcept {
    if (this != &other) {
      Release();
      data_ = std::exchange(other.data_, nullptr);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }

  // What a unit of `bytes` takes of a budget: whole pages.
  static int64_t Footprint(int64_t bytes);
  // Moves pages over from `spare` first, which shrink or become empty: a page
  // that is there already need not be found and cleared by the kernel, and, in
  // a virtual machine, by its host.
  //   RESOURCE_EXHAUSTED  the system has no memory
  static absl::StatusOr<UnitMemory> Allocate(
      int64_t bytes, std::vector<UnitMemory>* spare = nullptr);

  std::byte* data() const { return data_; }
  std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  void Release();
  // Puts whole huge pages of `spare` in the place of the first ones here.
  void TakePages(std::vector<UnitMemory>* spare);

  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_UNIT_MEMORY_H_
