// Matrix products: every type and instruction set against the reference, and
// against each other bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "kernels/test_weights.h"

namespace conclave::kernels {
namespace {

constexpr float kUnwritten = 12345.0f;

void FillRandom(Activations& x, int64_t m, int64_t k, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  x.Resize(m, k);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t c = 0; c < k; ++c) {
      // Outliers, as real activations have, and a block of zeros.
      const float size = random() % 61 == 0 ? 30.0f : 1.0f;
      x.row(i)[c] = c / 32 == 1 && i % 3 == 1 ? 0.0f : size * normal(random);
    }
  }
}

// [m, rows + 3]: the last three columns must stay untouched.
std::vector<float> RunMatmul(const Ops& ops, Activations& x,
                             const PackedMatrix& w, int64_t panel_begin,
                             int64_t panel_end) {
  ops.quantize(x, 0, x.m());
  std::vector<float> out(static_cast<size_t>(x.m() * (w.rows + 3)), kUnwritten);
  ops.matmul(x, w, panel_begin, panel_end, out.data(), w.rows + 3);
  return out;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class MatmulTest : public testing::TestWithParam<QuantType> {};

TEST_P(MatmulTest, FastStaysNearTheReference) {
  const QuantType type = GetParam();
  const bool plain = TraitsOf(type).block_values == 1;
  const int64_t rows = 37, cols = 768, m = 5;
  const TestMatrix weights(type, rows, cols, 1);
  Activations x;
  FillRandom(x, m, cols, 2);
  const auto expected = RunMatmul(ReferenceOps(), x, weights.packed(), 0, 3);
  std::vector<float> row(cols);
  for (const Isa isa : SupportedIsas()) {
    const auto actual = RunMatmul(FastOps(isa), x, weights.packed(), 0, 3);
    for (int64_t r = 0; r < rows; ++r) {
      UnpackRow(weights.packed(), r, row.data());
      for (int64_t i = 0; i < m; ++i) {
        // int8 moves a value by at most half a step, largest / 254; the
        // steps are independent, so the error grows like a norm.
        double variance = 0, magnitude = 0;
        for (int64_t c = 0; c < cols; ++c) {
          const int64_t block = c / 32 * 32;
          float largest = 0;
          for (int64_t j = block; j < block + 32; ++j) {
            largest = std::max(largest, std::fabs(x.row(i)[j]));
          }
          const double step = largest / 127 / std::sqrt(12.0) * row[c];
          variance += step * step;
          magnitude += std::fabs(row[c] * x.row(i)[c]);
        }
        const double tolerance =
            1e-5 * magnitude + (plain ? 0 : 6 * std::sqrt(variance));
        ASSERT_NEAR(actual[i * (rows + 3) + r], expected[i * (rows + 3) + r],
                    tolerance)
            << IsaName(isa) << " row " << r << " token " << i;
      }
    }
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t r = rows; r < rows + 3; ++r) {
        ASSERT_EQ(actual[i * (rows + 3) + r], kUnwritten);
      }
    }
  }
}

TEST_P(MatmulTest, InstructionSetsAgreeBitForBit) {
  const QuantType type = GetParam();
  const int64_t step = TraitsOf(type).block_values;
  for (const int64_t cols :
       {step == 1 ? 37 : step, 3 * std::max<int64_t>(step, 32),
        5 * std::max<int64_t>(step, 32)}) {
    const TestMatrix weights(type, 39, cols, 3, /*panels_per_run=*/2);
    for (const int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 33}) {
      Activations x;
      FillRandom(x, m, cols, static_cast<uint32_t>(m));
      const auto expected =
          RunMatmul(FastOps(Isa::kScalar), x, weights.packed(), 0, 3);
      for (const Isa isa : SupportedIsas()) {
        ASSERT_TRUE(SameBits(RunMatmul(FastOps(isa), x, weights.packed(), 0, 3),
                             expected))
            << IsaName(isa) << " cols " << cols << " m " << m;
      }
    }
  }
}

// A token's result is the same alone as among 300 (more than are worked on
// together), and for any cut of panels.
TEST_P(MatmulTest, NeighboursAndCutsNeverMatter) {
  const QuantType type = GetParam();
  const int64_t rows = 16 * 5 - 3, cols = 512, m = 300;
  const TestMatrix weights(type, rows, cols, 4, /*panels_per_run=*/2);
  for (const Isa isa : SupportedIsas()) {
    if (isa == Isa::kScalar) continue;  // it has one loop for all
    const Ops& ops = FastOps(isa);
    Activations all;
    FillRandom(all, m, cols, 5);
    const auto together = RunMatmul(ops, all, weights.packed(), 0, 5);
    for (const int64_t i : {0, 1, 33, 63, 64, 251, 252, 255, 256, 299}) {
      Activations one;
      one.Resize(1, cols);
      std::copy_n(all.row(i), cols, one.row(0));
      const auto alone = RunMatmul(ops, one, weights.packed(), 0, 5);
      ASSERT_EQ(std::memcmp(alone.data(), &together[i * (rows + 3)],
                            rows * sizeof(float)),
                0)
          << IsaName(isa) << " token " << i;
    }
    std::vector<float> cut(together.size(), kUnwritten);
    for (const auto& [begin, end] :
         {std::pair{3, 5}, std::pair{0, 1}, std::pair{1, 3}}) {
      ops.matmul(all, weights.packed(), begin, end, cut.data(), rows + 3);
    }
    ASSERT_TRUE(SameBits(cut, together)) << IsaName(isa);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, MatmulTest, testing::ValuesIn(kAllQuantTypes),
                         [](const auto& param) {
                           return std::string(TraitsOf(param.param).name);
                         });

// The largest integers that the formats can make: nothing saturates.
TEST(MatmulTest, ExtremeCodesDoNotSaturate) {
  const int64_t cols = 256;
  for (const QuantType type : kAllQuantTypes) {
    const QuantTraits& traits = TraitsOf(type);
    if (traits.block_values == 1) continue;
    for (const int fill : {0xff, 0x80, 0x7f, 0x00}) {
      std::vector<std::byte> rows(
          static_cast<size_t>(16 * RowBytes(type, cols)),
          static_cast<std::byte>(fill));
      const uint16_t one = FloatToHalf(1.0f);
      for (size_t at = 0; at < rows.size(); at += traits.block_bytes) {
        std::memcpy(&rows[at + (type == QuantType::kQ6_K ? 208 : 0)], &one, 2);
        if (type == QuantType::kQ4_1 || type == QuantType::kQ5_1 ||
            type == QuantType::kQ4_K || type == QuantType::kQ5_K) {
          std::memcpy(&rows[at + 2], &one, 2);
        }
      }
      const AlignedBytes panel = MakeAligned(PanelBytes(type, cols));
      PackPanel(type, rows.data(), 16, cols, panel.get());
      const PanelRun run = {panel.get(), 0, 1};
      const PackedMatrix w = {type, 16, cols, {&run, 1}};
      for (const float sign : {1.0f, -1.0f}) {
        Activations x;
        x.Resize(7, cols);
        for (int64_t i = 0; i < 7; ++i) {
          std::fill_n(x.row(i), cols, sign * 127.0f);
        }
        // All values are integers: the exact answer is a double sum away.
        const auto exact = RunMatmul(ReferenceOps(), x, w, 0, 1);
        for (const Isa isa : SupportedIsas()) {
          const auto actual = RunMatmul(FastOps(isa), x, w, 0, 1);
          for (size_t i = 0; i < exact.size(); ++i) {
            ASSERT_NEAR(actual[i], exact[i], 1e-5 * std::fabs(exact[i]))
                << traits.name << " " << IsaName(isa) << " fill " << fill;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace conclave::kernels
