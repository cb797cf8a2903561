// Everything but matrix products and attention: each instruction set against
// the reference, and against the scalar one bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "kernels/ops.h"

namespace conclave::kernels {
namespace {

constexpr int64_t kSizes[] = {1, 2, 15, 16, 17, 31, 32, 64, 100, 576, 1536};

std::vector<float> Random(int64_t n, float size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = size * normal(random);
  return v;
}

// Runs `op` on the reference and on every instruction set. The results are
// within `relative` of the reference (of the larger of 1 and the value), and
// the same bits everywhere.
void Check(float relative,
           const std::function<std::vector<float>(const Ops&)>& op) {
  const std::vector<float> expected = op(ReferenceOps());
  const std::vector<float> scalar = op(FastOps(Isa::kScalar));
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_NEAR(scalar[i], expected[i],
                relative * std::max(1.0f, std::fabs(expected[i])))
        << i << " of " << expected.size();
  }
  for (const Isa isa : SupportedIsas()) {
    const std::vector<float> actual = op(FastOps(isa));
    ASSERT_EQ(actual.size(), scalar.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      ASSERT_EQ(std::memcmp(&actual[i], &scalar[i], 4), 0)
          << IsaName(isa) << " " << i << " of " << actual.size() << ": "
          << actual[i] << " and " << scalar[i];
    }
  }
}

TEST(VectorOpsTest, RmsNorm) {
  for (const int64_t n : kSizes) {
    const auto x = Random(n, 3.0f, 1), weight = Random(n, 1.0f, 2);
    Check(2e-6f, [&](const Ops& ops) {
      std::vector<float> out(n);
      ops.rms_norm(x.data(), weight.data(), n, 1e-5f, out.data());
      return out;
    });
  }
}

TEST(VectorOpsTest, LayerNorm) {
  for (const int64_t n : kSizes) {
    auto x = Random(n, 3.0f, 1);
    for (float& v : x) v += 7.0f;
    const auto weight = Random(n, 1.0f, 2), bias = Random(n, 1.0f, 3);
    Check(4e-6f, [&](const Ops& ops) {
      std::vector<float> out(n);
      ops.layer_norm(x.data(), weight.data(), bias.data(), n, 1e-2f,
                     out.data());
      return out;
    });
  }
}

TEST(VectorOpsTest, AddInPlace) {
  for (const int64_t n : kSizes) {
    const auto y = Random(n, 1.0f, 2);
    Check(0.0f, [&](const Ops& ops) {
      auto x = Random(n, 1.0f, 1);
      ops.add(x.data(), y.data(), n);
      return x;
    });
  }
}

TEST(VectorOpsTest, SiluMul) {
  for (const int64_t n : kSizes) {
    auto gate = Random(n, 20.0f, 1);
    const float extremes[] = {-1e30f, 1e30f, -100.0f, 100.0f, 0.0f, -88.0f};
    for (size_t i = 0; i < gate.size() && i < 6 && n > 6; ++i) {
      gate[i] = extremes[i];
    }
    const auto up = Random(n, 1.0f, 2);
    Check(1e-6f, [&](const Ops& ops) {
      auto out = gate;  // in place
      ops.silu_mul(out.data(), up.data(), n, out.data());
      return out;
    });
  }
}

TEST(VectorOpsTest, GeluTanhMul) {
  for (const int64_t n : kSizes) {
    auto gate = Random(n, 6.0f, 1);
    const float extremes[] = {-1e30f, 1e30f, -100.0f, 100.0f, 0.0f, -9.0f};
    for (size_t i = 0; i < gate.size() && i < 6 && n > 6; ++i) {
      gate[i] = extremes[i];
    }
    const auto up = Random(n, 1.0f, 2);
    Check(1e-6f, [&](const Ops& ops) {
      auto out = gate;  // in place
      ops.gelu_tanh_mul(out.data(), up.data(), n, out.data());
      return out;
    });
  }
}

TEST(VectorOpsTest, Gelu) {
  std::vector<float> sweep;
  for (int i = -60000; i <= 60000; ++i) {
    sweep.push_back(static_cast<float>(i) * 1e-4f);
  }
  sweep.insert(sweep.end(), {-1e20f, 1e20f, 1e-30f, -0.0f, 12.0f, -12.0f});
  Check(5e-7f, [&](const Ops& ops) {
    auto x = sweep;
    ops.gelu(x.data(), static_cast<int64_t>(x.size()));
    return x;
  });
}

TEST(VectorOpsTest, NansSurvive) {
  const float nan = std::nanf("");
  for (const Isa isa : SupportedIsas()) {
    std::vector<float> x(20, nan), up(20, 1.0f);
    FastOps(isa).silu_mul(x.data(), up.data(), 20, x.data());
    EXPECT_TRUE(std::isnan(x[0]) && std::isnan(x[19])) << IsaName(isa);
    FastOps(isa).gelu_tanh_mul(x.data(), up.data(), 20, x.data());
    EXPECT_TRUE(std::isnan(x[0]) && std::isnan(x[19])) << IsaName(isa);
    FastOps(isa).gelu(x.data(), 20);
    EXPECT_TRUE(std::isnan(x[0]) && std::isnan(x[19])) << IsaName(isa);
  }
}

TEST(VectorOpsTest, RopeKeepsItsPrecisionAtLargePositions) {
  for (const int64_t head_dim : {2, 32, 40, 64, 128, 256}) {
    RopeTable table;
    for (int64_t i = 0; i < head_dim / 2; ++i) {
      table.inv_freq.push_back(static_cast<float>(std::pow(
          10000.0,
          -2.0 * static_cast<double>(i) / static_cast<double>(head_dim))));
    }
    table.magnitude = 1.25f;
    for (const int64_t position : {0, 1, 7, 511, 8191, 131071, 1000003}) {
      Check(1e-6f, [&](const Ops& ops) {
        auto x = Random(3 * head_dim, 1.0f, 4);
        ops.rope(x.data(), 3, head_dim, position, table);
        return x;
      });
    }
  }
}

TEST(VectorOpsTest, QuantizedActivationsAreWithinHalfAStep) {
  const int64_t m = 3, k = 160;
  const auto values = Random(m * k, 5.0f, 6);
  Activations scalar;
  for (const Isa isa : SupportedIsas()) {
    Activations x;
    x.Resize(m, k);
    for (int64_t i = 0; i < m; ++i) {
      std::copy_n(values.data() + i * k, k, x.row(i));
    }
    std::fill_n(x.row(1) + 32, 32, 0.0f);
    std::fill_n(x.row(1) + 64, 32, 1e-38f);
    FastOps(isa).quantize(x, 0, m);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t b = 0; b < k / 32; ++b) {
        int32_t sums[2] = {0, 0};
        for (int64_t j = 0; j < 32; ++j) {
          const int8_t q = x.q(i)[32 * b + j];
          sums[j / 16] += q;
          EXPECT_LE(std::fabs(x.row(i)[32 * b + j] - q * x.scale(i)[b]),
                    0.5001f * x.scale(i)[b] + 1e-37f);
        }
        EXPECT_EQ(x.sum(i)[b], sums[0] + sums[1]);
        EXPECT_EQ(x.sum16(i)[2 * b], sums[0]);
        EXPECT_EQ(x.sum16(i)[2 * b + 1], sums[1]);
        EXPECT_EQ(x.scaled_sum(i)[b],
                  x.scale(i)[b] * static_cast<float>(x.sum(i)[b]));
      }
    }
    if (isa == Isa::kScalar) {
      scalar = x;
      continue;
    }
    EXPECT_EQ(std::memcmp(x.q(0), scalar.q(0), m * k), 0) << IsaName(isa);
    EXPECT_EQ(std::memcmp(x.scale(0), scalar.scale(0), m * k / 8), 0);
  }
}

}  // namespace
}  // namespace conclave::kernels
