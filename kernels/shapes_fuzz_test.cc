// Kernels at random shapes, each instruction set against the scalar twin bit
// for bit: sizes that nobody thought of, cuts anywhere, buffers that end where
// the last value does.
//
// CONCLAVE_KERNEL_TRIALS=100000 for a long run; CONCLAVE_KERNEL_SEED begins at
// another trial than 0. A failure names its trial.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "base/machine.h"
#include "kernels/ops.h"
#include "kernels/test_weights.h"

namespace conclave::kernels {
namespace {

constexpr float kUnwritten = 12345.0f;

uint32_t FromEnvironment(const char* name, uint32_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise
                          : static_cast<uint32_t>(std::atoll(value));
}

class Draw {
 public:
  explicit Draw(uint32_t seed) : random_(seed) {}
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_() %
                                      static_cast<uint64_t>(high - low + 1));
  }
  bool OneIn(int64_t n) { return Between(1, n) == 1; }
  std::mt19937& random() { return random_; }

  // Ordinary numbers, outliers, zeros of both signs, the smallest and numbers
  // that a half does not hold.
  std::vector<float> Values(int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(count));
    const bool odd = OneIn(4);
    for (float& v : values) {
      v = normal(random_) * (OneIn(50) ? 40.0f : 1.0f);
      if (!odd) continue;
      if (OneIn(8)) v = OneIn(2) ? 0.0f : -0.0f;
      if (OneIn(16)) v *= 1e-39f;
      if (OneIn(16)) v *= 1e6f;
    }
    return values;
  }

 private:
  std::mt19937 random_;
};

// NaNs are all alike: which of two a sum takes its sign from is not promised,
// and a request that meets one fails.
bool SameBits(float a, float b) {
  if (std::isnan(a) && std::isnan(b)) return true;
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

// Runs trials of one kind; `one` returns what a set computes, from the same
// draws for each.
template <typename One>
void Compare(const char* what, uint32_t trials, One one) {
  const std::vector<Isa> isas = SupportedIsas();
  ASSERT_GT(trials, 0u) << "CONCLAVE_KERNEL_TRIALS: nothing would be tested";
  const uint32_t first = FromEnvironment("CONCLAVE_KERNEL_SEED", 0);
  for (uint32_t trial = first; trial < first + trials; ++trial) {
    std::string shape;
    const std::vector<float> expected =
        one(Draw(trial), FastOps(Isa::kScalar), shape);
    for (size_t i = 1; i < isas.size(); ++i) {
      const std::vector<float> actual =
          one(Draw(trial), FastOps(isas[i]), shape);
      ASSERT_EQ(actual.size(), expected.size());
      for (size_t at = 0; at < actual.size(); ++at) {
        ASSERT_TRUE(SameBits(actual[at], expected[at]))
            << what << " trial " << trial << " on " << IsaName(isas[i]) << ": "
            << shape << "; value " << at << " is " << actual[at] << ", scalar "
            << expected[at];
      }
    }
  }
  std::printf("%u trials on scalar", trials);
  for (size_t i = 1; i < isas.size(); ++i) {
    std::printf(", %s", std::string(IsaName(isas[i])).c_str());
  }
  std::printf("\n");
}

TEST(ShapesFuzzTest, Matmul) {
  Compare("matmul", FromEnvironment("CONCLAVE_KERNEL_TRIALS", 400),
          [](Draw draw, const Ops& ops, std::string& shape) {
            const QuantType type = kAllQuantTypes[draw.Between(
                0, static_cast<int64_t>(std::size(kAllQuantTypes)) - 1)];
            const int64_t step = TraitsOf(type).block_values;
            const int64_t k = step == 1
                                  ? draw.Between(1, 300)
                                  : step * draw.Between(1, step == 32 ? 20 : 4);
            const int64_t n = draw.Between(1, 100);
            const int64_t m = draw.OneIn(3)    ? 1
                              : draw.OneIn(10) ? draw.Between(100, 400)
                                               : draw.Between(2, 40);
            const TestMatrix weights(
                type, n, k, static_cast<uint32_t>(draw.Between(0, 1 << 30)),
                draw.Between(1, 8));
            Activations x;
            x.Resize(m, k);
            const std::vector<float> values = draw.Values(m * k);
            for (int64_t i = 0; i < m; ++i) {
              std::copy_n(&values[static_cast<size_t>(i * k)], k, x.row(i));
            }
            ops.quantize(x, 0, m);
            const int64_t panels = weights.packed().num_panels();
            const int64_t begin = draw.Between(0, panels - 1);
            const int64_t end = draw.Between(begin + 1, panels);
            const int64_t row_begin = draw.Between(0, m - 1);
            const int64_t row_end = draw.Between(row_begin + 1, m);
            const int64_t stride = n + draw.Between(0, 5);
            shape = std::string(TraitsOf(type).name) + " m " +
                    std::to_string(m) + " n " + std::to_string(n) + " k " +
                    std::to_string(k) + " rows " + std::to_string(row_begin) +
                    ".." + std::to_string(row_end) + " panels " +
                    std::to_string(begin) + ".." + std::to_string(end);
            std::vector<float> out(static_cast<size_t>(m * stride), kUnwritten);
            ops.matmul_rows(x, row_begin, row_end, weights.packed(), begin, end,
                            out.data(), stride);
            // Nothing beside what was asked for.
            for (int64_t i = 0; i < m; ++i) {
              for (int64_t r = 0; r < stride; ++r) {
                const bool asked = i >= row_begin && i < row_end &&
                                   r >= begin * 16 && r < std::min(n, end * 16);
                const float v = out[static_cast<size_t>(i * stride + r)];
                EXPECT_EQ(v == kUnwritten, !asked)
                    << shape << " row " << i << " column " << r;
              }
            }
            // The int8 form itself too.
            for (int64_t i = 0; i < m; ++i) {
              for (int64_t b = 0; b < k / 32; ++b) {
                out.push_back(x.scale(i)[b]);
                out.push_back(x.scaled_sum(i)[b]);
                out.push_back(static_cast<float>(x.sum(i)[b]));
                out.push_back(static_cast<float>(x.sum16(i)[2 * b]));
                for (int64_t j = 0; j < 32; ++j) {
                  out.push_back(static_cast<float>(x.q(i)[32 * b + j]));
                }
              }
            }
            return out;
          });
}

TEST(ShapesFuzzTest, VectorOps) {
  Compare(
      "vector ops", FromEnvironment("CONCLAVE_KERNEL_TRIALS", 400),
      [](Draw draw, const Ops& ops, std::string& shape) {
        const int64_t n = draw.Between(1, 200);
        shape = "n " + std::to_string(n);
        const auto a = draw.Values(n), b = draw.Values(n), c = draw.Values(n);
        std::vector<float> all;
        // Exactly n long, so that a sanitizer sees a step too far.
        std::vector<float> out(static_cast<size_t>(n));
        const auto keep = [&] {
          all.insert(all.end(), out.begin(), out.end());
        };
        ops.rms_norm(a.data(), b.data(), n, 1e-5f, out.data());
        keep();
        ops.layer_norm(a.data(), b.data(), c.data(), n, 1e-5f, out.data());
        keep();
        ops.silu_mul(a.data(), b.data(), n, out.data());
        keep();
        ops.gelu_tanh_mul(a.data(), b.data(), n, out.data());
        keep();
        out = a;
        ops.gelu(out.data(), n);
        keep();
        out = a;
        ops.add(out.data(), b.data(), n);
        keep();
        const int64_t half = draw.Between(1, 80), heads = draw.Between(1, 4);
        RopeTable table;
        for (int64_t i = 0; i < half; ++i) {
          table.inv_freq.push_back(std::pow(
              10000.0f, -static_cast<float>(i) / static_cast<float>(half)));
        }
        table.magnitude = draw.OneIn(2) ? 1.0f : 1.1f;
        out = draw.Values(heads * 2 * half);
        ops.rope(out.data(), heads, 2 * half, draw.Between(0, 130000), table);
        keep();
        return all;
      });
}

TEST(ShapesFuzzTest, Attention) {
  Compare(
      "attention", FromEnvironment("CONCLAVE_KERNEL_TRIALS", 400) / 4 + 1,
      [](Draw draw, const Ops& ops, std::string& shape) {
        KvView kv;
        kv.type = draw.OneIn(4) ? KvType::kF32 : KvType::kF16;
        kv.num_kv_heads = draw.Between(1, 4);
        kv.head_dim = draw.Between(1, 140);
        const int64_t heads = kv.num_kv_heads * draw.Between(1, 5);
        const int64_t length = draw.Between(1, 150);
        const int64_t window = draw.OneIn(2) ? 0 : draw.Between(1, length + 5);
        const int64_t first = draw.Between(0, length - 1);
        const int64_t begin = draw.Between(0, heads - 1);
        const int64_t end = draw.Between(begin + 1, heads);
        shape = "heads " + std::to_string(heads) + " over " +
                std::to_string(kv.num_kv_heads) + " of " +
                std::to_string(kv.head_dim) + " length " +
                std::to_string(length) + " from " + std::to_string(first) +
                " window " + std::to_string(window);
        const int64_t bytes = kv.PageBytes();
        const int64_t num_pages = (length + kKvPageTokens - 1) / kKvPageTokens;
        // What was never stored is NaN.
        const AlignedBytes memory = MakeAligned(num_pages * bytes);
        std::memset(memory.get(), 0xff, static_cast<size_t>(num_pages * bytes));
        std::vector<std::byte*> pages;
        for (int64_t p = 0; p < num_pages; ++p) {
          pages.push_back(memory.get() + p * bytes);
        }
        kv.pages = pages;
        const int64_t row = kv.num_kv_heads * kv.head_dim;
        const auto k = draw.Values(length * row), v = draw.Values(length * row);
        for (int64_t t = 0; t < length; ++t) {
          ops.store_kv(kv, t, &k[static_cast<size_t>(t * row)],
                       &v[static_cast<size_t>(t * row)]);
        }
        const int64_t stride = heads * kv.head_dim;
        const auto q = draw.Values(length * stride);
        std::vector<float> out(static_cast<size_t>((length - first) * stride),
                               kUnwritten);
        ops.attention(&q[static_cast<size_t>(first * stride)], stride,
                      length - first, first, heads, begin, end, kv, 0.1f,
                      window, out.data(), stride);
        return out;
      });
}

// The line that benches begin with names the set that runs.
TEST(ShapesFuzzTest, TheMachineLineNamesTheInstructionSet) {
  EXPECT_NE(MachineLine().find(", " + std::string(IsaName(BestIsa())) + ", "),
            std::string::npos)
      << MachineLine();
}

}  // namespace
}  // namespace conclave::kernels
