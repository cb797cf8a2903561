#include "expert_workers/weights/unit_memory.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace conclave::weights {
namespace {

constexpr int64_t kHuge = int64_t{2} << 20;

void Fill(const UnitMemory& memory, int value) {
  std::memset(memory.data(), value, memory.bytes().size());
}

bool Holds(std::span<const std::byte> bytes, int value) {
  return std::ranges::all_of(
      bytes, [value](std::byte b) { return b == std::byte(value); });
}

TEST(UnitMemoryTest, IsAlignedAndWholePagesLong) {
  const auto memory = UnitMemory::Allocate(kHuge + 1);
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->data()) % kHuge, 0u);
  EXPECT_EQ(memory->bytes().size(), static_cast<size_t>(kHuge) + 4096);
  EXPECT_EQ(UnitMemory::Footprint(kHuge + 1), kHuge + 4096);
}

TEST(UnitMemoryTest, TakesThePagesOfSpareMemory) {
  std::vector<UnitMemory> spare;
  spare.push_back(*UnitMemory::Allocate(5 * kHuge + 100));
  spare.push_back(*UnitMemory::Allocate(2 * kHuge));
  Fill(spare[0], 1);
  Fill(spare[1], 2);
  // Two pages of the last, one of the first, and what is fresh.
  const UnitMemory memory =
      *UnitMemory::Allocate(3 * kHuge + kHuge / 2, &spare);
  const auto bytes = memory.bytes();
  ASSERT_EQ(bytes.size(), static_cast<size_t>(3 * kHuge + kHuge / 2));
  EXPECT_TRUE(Holds(bytes.first(2 * kHuge), 2));
  EXPECT_TRUE(Holds(bytes.subspan(2 * kHuge, kHuge), 1));
  EXPECT_TRUE(Holds(bytes.subspan(3 * kHuge), 0));
  Fill(memory, 3);
  ASSERT_EQ(spare.size(), 1u);
  EXPECT_EQ(spare[0].bytes().size(), static_cast<size_t>(4 * kHuge) + 4096);
  EXPECT_TRUE(Holds(spare[0].bytes(), 1));
}

TEST(UnitMemoryTest, SpareMemoryTooSmallIsGivenBack) {
  std::vector<UnitMemory> spare;
  spare.push_back(*UnitMemory::Allocate(4096));
  spare.push_back(UnitMemory());
  const UnitMemory memory = *UnitMemory::Allocate(kHuge, &spare);
  EXPECT_TRUE(spare.empty());
  EXPECT_TRUE(Holds(memory.bytes(), 0));
}

}  // namespace
}  // namespace conclave::weights
