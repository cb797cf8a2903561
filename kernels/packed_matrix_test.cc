#include "kernels/packed_matrix.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/test_weights.h"

namespace conclave::kernels {
namespace {

class PackedMatrixTest : public testing::TestWithParam<QuantType> {};

TEST_P(PackedMatrixTest, UnpackedRowsAreTheSourcesBits) {
  const QuantType type = GetParam();
  for (const int64_t cols : {256, 512, 1280}) {
    for (const int64_t rows : {1, 15, 16, 17, 50}) {
      const TestMatrix matrix(type, rows, cols, 7, /*panels_per_run=*/2);
      std::vector<float> expected(cols), actual(cols);
      for (int64_t r = 0; r < rows; ++r) {
        DequantizeRow(type, matrix.source_row(r), cols, expected.data());
        UnpackRow(matrix.packed(), r, actual.data());
        ASSERT_EQ(std::memcmp(expected.data(), actual.data(), cols * 4), 0)
            << TraitsOf(type).name << " row " << r << " of " << rows;
      }
    }
  }
}

TEST_P(PackedMatrixTest, PanelsAreNoLargerThanTheSource) {
  const QuantType type = GetParam();
  const int64_t cols = 1024;
  EXPECT_EQ(PanelBytes(type, cols) % 64, 0);
  EXPECT_EQ(PanelBytes(type, cols), 16 * RowBytes(type, cols));
}

INSTANTIATE_TEST_SUITE_P(Types, PackedMatrixTest,
                         testing::ValuesIn(kAllQuantTypes),
                         [](const auto& param) {
                           return std::string(TraitsOf(param.param).name);
                         });

TEST(PackedMatrixTest, PlainTypesTakeAnyWidth) {
  EXPECT_TRUE(CanPack(QuantType::kF32, 37));
  EXPECT_FALSE(CanPack(QuantType::kF32, 0));
  EXPECT_FALSE(CanPack(QuantType::kQ4_1, 48));
  EXPECT_TRUE(CanPack(QuantType::kQ4_1, 96));
  EXPECT_FALSE(CanPack(QuantType::kQ6_K, 896 + 32));
  EXPECT_EQ(PanelBytes(QuantType::kF16, 37), 1216);  // 1184, rounded up
}

}  // namespace
}  // namespace conclave::kernels
