#include "kernels/quantize_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/quant_type.h"
#include "kernels/test_weights.h"

namespace conclave::kernels {
namespace {

// Rows of fp32 as a packed matrix, with their memory.
struct PlainMatrix {
  PlainMatrix(const std::vector<float>& values, int64_t rows, int64_t cols)
      : memory(
            MakeAligned(NumPanels(rows) * PanelBytes(QuantType::kF32, cols))) {
    for (int64_t p = 0; p < NumPanels(rows); ++p) {
      PackPanel(QuantType::kF32,
                reinterpret_cast<const std::byte*>(values.data() +
                                                   p * kPanelRows * cols),
                std::min(kPanelRows, rows - p * kPanelRows), cols,
                memory.get() + p * PanelBytes(QuantType::kF32, cols));
    }
    run = {memory.get(), 0, NumPanels(rows)};
    packed = {QuantType::kF32, rows, cols, {&run, 1}};
  }
  AlignedBytes memory;
  PanelRun run;
  PackedMatrix packed;
};

std::vector<float> RandomValues(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.05f);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

TEST(QuantizeWeightsTest, EachValueMovesByAtMostHalfAStep) {
  const int64_t rows = 37, cols = 96;
  std::vector<float> values = RandomValues(rows * cols, 1);
  std::fill_n(values.begin() + 2 * cols + 32, 32, 0.0f);  // a block of zeros
  const PlainMatrix plain(values, rows, cols);
  const auto copy = OwnedMatrix::InQ8_0(plain.packed);
  ASSERT_NE(copy, nullptr);
  EXPECT_EQ(copy->view().type, QuantType::kQ8_0);
  ASSERT_EQ(copy->view().rows, rows);
  std::vector<float> row(static_cast<size_t>(cols));
  for (int64_t r = 0; r < rows; ++r) {
    UnpackRow(copy->view(), r, row.data());
    for (int64_t begin = 0; begin < cols; begin += 32) {
      const float* want = values.data() + r * cols + begin;
      float largest = 0;
      for (int i = 0; i < 32; ++i) {
        largest = std::max(largest, std::fabs(want[i]));
      }
      for (int i = 0; i < 32; ++i) {
        // The scale itself is rounded to 11 bits: 127 steps of 2^-12 each.
        EXPECT_LE(std::fabs(row[begin + i] - want[i]),
                  largest / 127 * (0.5f + 127 * 0x1p-12f))
            << r << ", " << begin + i;
      }
    }
  }
}

// What is in 8 bits already does not change: codes and scales are found again.
TEST(QuantizeWeightsTest, EightBitsStayWhatTheyAre) {
  const int64_t cols = 128;
  const std::vector<float> values = RandomValues(16 * cols, 2);
  const PlainMatrix plain(values, 16, cols);
  const auto once = OwnedMatrix::InQ8_0(plain.packed);
  ASSERT_NE(once, nullptr);
  const auto twice = OwnedMatrix::InQ8_0(once->view());
  ASSERT_NE(twice, nullptr);
  EXPECT_EQ(
      std::memcmp(once->view().Panel(0), twice->view().Panel(0),
                  static_cast<size_t>(OwnedMatrix::BytesInQ8_0(16, cols))),
      0);
}

TEST(QuantizeWeightsTest, RefusesWhatHasNoForm) {
  std::vector<std::byte> out(
      static_cast<size_t>(RowBytes(QuantType::kQ8_0, 64)));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(), 1e7f}) {
    std::vector<float> values(64, 0.5f);
    EXPECT_TRUE(QuantizeRowToQ8_0(values, out.data()));
    values[40] = bad;  // 1e7 / 127 is more than fp16 holds
    EXPECT_FALSE(QuantizeRowToQ8_0(values, out.data())) << bad;
    const PlainMatrix plain(values, 1, 64);
    EXPECT_EQ(OwnedMatrix::InQ8_0(plain.packed), nullptr) << bad;
  }
  const PlainMatrix odd(RandomValues(48, 3), 1, 48);
  EXPECT_EQ(OwnedMatrix::InQ8_0(odd.packed), nullptr);
}

// Values so small that their scale is zero in fp16 become zeros, not NaNs.
TEST(QuantizeWeightsTest, TinyValuesBecomeZero) {
  const PlainMatrix plain(std::vector<float>(32, 1e-9f), 1, 32);
  const auto copy = OwnedMatrix::InQ8_0(plain.packed);
  ASSERT_NE(copy, nullptr);
  std::vector<float> row(32, 1.0f);
  UnpackRow(copy->view(), 0, row.data());
  for (const float value : row) EXPECT_EQ(value, 0.0f);
}

}  // namespace
}  // namespace conclave::kernels
