#include "router_service/classify/byte_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "router_service/classify/add_rows.h"

namespace conclave::router {
namespace {

float Uniform(std::mt19937_64* random) {
  return static_cast<float>((*random)() >> 40) * 0x1p-23f - 1;  // -1..1
}

struct Weights {
  Weights(uint32_t rows, uint32_t categories, uint64_t seed)
      : num_rows(rows), num_categories(categories), stride(categories + 5) {
    std::mt19937_64 random(seed);
    for (size_t i = 0; i < (size_t{rows} + 1) * stride; ++i) {
      values.push_back(Uniform(&random));
    }
  }
  float at(size_t row, size_t c) const { return values[row * stride + c]; }
  ByteRows Served() const {
    return ByteRows(values, num_rows, stride, num_categories);
  }
  uint32_t num_rows, num_categories;
  size_t stride;
  std::vector<float> values;
};

RowVector RandomText(uint32_t num_rows, size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  RowVector x;
  for (size_t j = 0; j < count; ++j) {
    x.rows.push_back(static_cast<uint32_t>(random() % num_rows));
    x.values.push_back(std::abs(Uniform(&random)));
  }
  return x;
}

TEST(ByteRowsTest, MarginsAreWithinTheRoundingOfBytes) {
  for (const uint32_t categories : {1u, 10u, 16u, 17u, 40u, 64u, 65u, 150u}) {
    const Weights weights(300, categories, categories);
    const ByteRows rows = weights.Served();
    for (const size_t count : {1, 2, 15, 16, 17, 33, 500}) {
      const RowVector x = RandomText(300, count, count);
      std::vector<float> margins;
      rows.Score(x, &margins);
      ASSERT_EQ(margins.size(), categories);
      double length = 0;
      for (const float value : x.values) length += double(value) * value;
      length = std::sqrt(length);
      for (uint32_t c = 0; c < categories; ++c) {
        double exact = weights.at(300, c);
        for (size_t j = 0; j < count; ++j) {
          exact += double(x.values[j]) * weights.at(x.rows[j], c);
        }
        // A weight moves by up to half of 1 / 127, independently of others.
        EXPECT_NEAR(margins[c], exact, 5 * length / 127 / std::sqrt(12.0))
            << categories << " categories, " << count << " rows, " << c;
      }
    }
  }
}

TEST(ByteRowsTest, NothingReadLeavesTheBias) {
  const Weights weights(4, 3, 1);
  std::vector<float> margins;
  weights.Served().Score({}, &margins);
  ASSERT_EQ(margins.size(), 3u);
  for (uint32_t c = 0; c < 3; ++c) EXPECT_EQ(margins[c], weights.at(4, c));
  ByteRows().Score({.rows = {}, .values = {}}, &margins);
  EXPECT_TRUE(margins.empty());
}

// The largest sums that a long text can make: all of one sign.
TEST(ByteRowsTest, LongTextsDoNotOverflow) {
  const uint32_t categories = 20;
  std::vector<float> ones(3 * categories, 1.0f);
  const ByteRows rows(ones, 2, categories, categories);
  for (const size_t count : {100, 10000, 1000000}) {
    RowVector x;
    x.rows.assign(count, 1);
    x.values.assign(count, 1 / std::sqrt(static_cast<float>(count)));
    x.values[0] = 0.9f;  // one that stands out
    double exact = 1;
    for (const float value : x.values) exact += value;
    std::vector<float> margins;
    rows.Score(x, &margins);
    for (const float margin : margins) {
      EXPECT_NEAR(margin, exact, 0.05 * exact) << count;
    }
  }
}

TEST(ByteRowsTest, InstructionSetsAgree) {
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "no AVX2 here";
  std::mt19937_64 random(5);
  std::vector<std::vector<int8_t>> bytes(16, std::vector<int8_t>(64));
  std::vector<const int8_t*> rows;
  std::vector<int16_t> values;
  for (auto& row : bytes) {
    for (int8_t& byte : row) byte = static_cast<int8_t>(random() % 255 - 127);
    rows.push_back(row.data());
    values.push_back(static_cast<int16_t>(random() % 65535 - 32767));
  }
  for (size_t pairs = 0; pairs <= 8; ++pairs) {
    for (size_t column : {0, 16, 48}) {
      std::vector<int32_t> scalar(16), baseline(16), avx2(16);
      for (int c = 0; c < 16; ++c) scalar[c] = baseline[c] = avx2[c] = 7 * c;
      for (size_t j = 0; j < 2 * pairs; ++j) {
        for (int c = 0; c < 16; ++c) {
          scalar[c] += values[j] * bytes[j][column + c];
        }
      }
      AddRowsBaseline(rows.data(), values.data(), pairs, column,
                      baseline.data());
      AddRowsAvx2(rows.data(), values.data(), pairs, column, avx2.data());
      EXPECT_EQ(baseline, scalar);
      EXPECT_EQ(avx2, scalar);
    }
  }
}

}  // namespace
}  // namespace conclave::router
