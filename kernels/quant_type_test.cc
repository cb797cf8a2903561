#include "kernels/quant_type.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace conclave::kernels {
namespace {

std::vector<std::byte> FromHex(const std::string& hex) {
  std::vector<std::byte> bytes(hex.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] =
        static_cast<std::byte>(std::stoi(hex.substr(2 * i, 2), nullptr, 16));
  }
  return bytes;
}

// The values that the gguf package gives, bit for bit.
TEST(QuantTypeTest, DequantizesLikeTheGgufPackage) {
  std::ifstream file("tests/golden/kernels/dequantize.txt");
  ASSERT_TRUE(file) << "run from the repository's root";
  std::set<std::string> seen;
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    std::string name, blocks_hex, values_hex;
    fields >> name >> blocks_hex >> values_hex;
    const QuantTraits* traits = nullptr;
    std::optional<QuantTraits> found;
    for (uint32_t type = 0; type < 64 && traits == nullptr; ++type) {
      found = FindQuantTraits(type);
      if (found && found->name == name) traits = &*found;
    }
    ASSERT_NE(traits, nullptr) << name;
    const std::vector<std::byte> blocks = FromHex(blocks_hex);
    const std::vector<std::byte> expected = FromHex(values_hex);
    std::vector<float> values(expected.size() / 4);
    const auto cols = static_cast<int64_t>(values.size());
    ASSERT_EQ(RowBytes(traits->type, cols),
              static_cast<int64_t>(blocks.size()));
    DequantizeRow(traits->type, blocks.data(), cols, values.data());
    EXPECT_EQ(std::memcmp(values.data(), expected.data(), expected.size()), 0)
        << name;
    seen.insert(name);
  }
  EXPECT_EQ(seen.size(), 11u);
}

TEST(QuantTypeTest, UnknownNumbersAreNothing) {
  EXPECT_FALSE(FindQuantTraits(4).has_value());
  EXPECT_FALSE(FindQuantTraits(31).has_value());
  EXPECT_FALSE(FindQuantTraits(0xffffffff).has_value());
  EXPECT_EQ(FindQuantTraits(14)->name, "Q6_K");
}

TEST(QuantTypeTest, EveryHalfSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = HalfToFloat(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(value)))) << bits;
    } else {
      ASSERT_EQ(FloatToHalf(value), half) << value;
    }
  }
}

TEST(QuantTypeTest, HalvesRoundToNearestEven) {
  EXPECT_EQ(HalfToFloat(FloatToHalf(65519.0f)), 65504.0f);
  EXPECT_EQ(HalfToFloat(FloatToHalf(65520.0f)),
            std::numeric_limits<float>::infinity());
  EXPECT_EQ(FloatToHalf(1.0f + 0x1p-11f), FloatToHalf(1.0f));
  EXPECT_EQ(HalfToFloat(FloatToHalf(1.0f + 3 * 0x1p-11f)), 1.0f + 0x1p-9f);
  EXPECT_EQ(FloatToHalf(0x1p-25f), 0);  // a tie, to even
  EXPECT_EQ(FloatToHalf(0x1.8p-25f), 1);
  EXPECT_EQ(FloatToHalf(-0.0f), 0x8000);
  // Every midpoint between two halves, and its neighbours.
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = HalfToFloat(static_cast<uint16_t>(bits));
    const float high = HalfToFloat(static_cast<uint16_t>(bits + 1));
    const float middle = low + (high - low) / 2;
    ASSERT_EQ(FloatToHalf(middle), bits + (bits & 1));
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(FloatToHalf(std::nextafter(middle, 1e9f)), bits + 1);
  }
}

TEST(QuantTypeTest, Bf16RoundsToNearestEven) {
  EXPECT_EQ(FloatToBf16(1.0f), 0x3f80);
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_EQ(FloatToBf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_TRUE(
      std::isnan(Bf16ToFloat(FloatToBf16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace conclave::kernels
