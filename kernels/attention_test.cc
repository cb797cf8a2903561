#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/ops.h"

namespace conclave::kernels {
namespace {

std::vector<float> Random(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = normal(random);
  return v;
}

struct Shape {
  int64_t heads, kv_heads, head_dim, length;
};

// One sequence whose pages start out full of NaN: what was not stored must
// never be read into a result.
class Sequence {
 public:
  Sequence(const Shape& shape, KvType type, const Ops& ops) : shape_(shape) {
    view_.type = type;
    view_.num_kv_heads = shape.kv_heads;
    view_.head_dim = shape.head_dim;
    const int64_t num_pages = (shape.length + 31) / 32;
    const int64_t bytes = view_.PageBytes();
    memory_.resize(static_cast<size_t>(num_pages * bytes), std::byte{0xff});
    for (int64_t p = 0; p < num_pages; ++p) {
      pages_.push_back(memory_.data() + p * bytes);
    }
    view_.pages = pages_;
    const int64_t row = shape.kv_heads * shape.head_dim;
    const auto k = Random(shape.length * row, 1);
    const auto v = Random(shape.length * row, 2);
    for (int64_t t = 0; t < shape.length; ++t) {
      ops.store_kv(view_, t, k.data() + t * row, v.data() + t * row);
    }
    q_ = Random(shape.length * shape.heads * shape.head_dim, 3);
  }
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  // Queries [first, first + count), heads [begin, end).
  std::vector<float> Run(const Ops& ops, int64_t first, int64_t count,
                         int64_t begin, int64_t end, int64_t window) const {
    const int64_t stride = shape_.heads * shape_.head_dim;
    std::vector<float> out(static_cast<size_t>(count * stride), -1.0f);
    ops.attention(q_.data() + first * stride, stride, count, first,
                  shape_.heads, begin, end, view_,
                  1.0f / std::sqrt(static_cast<float>(shape_.head_dim)), window,
                  out.data(), stride);
    return out;
  }
  const std::vector<std::byte>& memory() const { return memory_; }

 private:
  Shape shape_;
  std::vector<std::byte> memory_;
  std::vector<std::byte*> pages_;
  KvView view_;
  std::vector<float> q_;
};

const Shape kShapes[] = {
    {9, 3, 64, 75}, {14, 2, 64, 33}, {4, 1, 256, 40},
    {3, 3, 40, 65}, {4, 2, 128, 1},  {2, 1, 18, 100},
};

TEST(AttentionTest, NearTheReferenceAndTheSameBitsEverywhere) {
  for (const Shape& shape : kShapes) {
    for (const KvType type : {KvType::kF32, KvType::kF16}) {
      const Sequence reference(shape, type, ReferenceOps());
      const Sequence scalar(shape, type, FastOps(Isa::kScalar));
      EXPECT_EQ(reference.memory(), scalar.memory());
      for (const int64_t window : {0, 1, 20, 64}) {
        const auto expected = reference.Run(ReferenceOps(), 0, shape.length, 0,
                                            shape.heads, window);
        const auto bits = scalar.Run(FastOps(Isa::kScalar), 0, shape.length, 0,
                                     shape.heads, window);
        for (const Isa isa : SupportedIsas()) {
          const Sequence sequence(shape, type, FastOps(isa));
          EXPECT_EQ(sequence.memory(), scalar.memory()) << IsaName(isa);
          const auto actual = sequence.Run(FastOps(isa), 0, shape.length, 0,
                                           shape.heads, window);
          for (size_t i = 0; i < actual.size(); ++i) {
            ASSERT_NEAR(actual[i], expected[i], 2e-6f * 4)
                << IsaName(isa) << " " << i << " window " << window;
            ASSERT_EQ(std::memcmp(&actual[i], &bits[i], 4), 0)
                << IsaName(isa) << " " << i << " window " << window;
          }
        }
      }
    }
  }
}

// Prefill in one piece, in odd pieces and token by token; heads in any cut.
TEST(AttentionTest, NeighboursAndCutsNeverMatter) {
  for (const Shape& shape : kShapes) {
    for (const Isa isa : SupportedIsas()) {
      const Ops& ops = FastOps(isa);
      const Sequence sequence(shape, KvType::kF16, ops);
      const int64_t stride = shape.heads * shape.head_dim;
      for (const int64_t window : {0, 20}) {
        const auto whole =
            sequence.Run(ops, 0, shape.length, 0, shape.heads, window);
        for (const int64_t piece : {1, 2, 7, 30}) {
          for (int64_t first = 0; first < shape.length; first += piece) {
            const int64_t count = std::min(piece, shape.length - first);
            const auto part =
                sequence.Run(ops, first, count, 0, shape.heads, window);
            ASSERT_EQ(std::memcmp(part.data(), &whole[first * stride],
                                  part.size() * 4),
                      0)
                << IsaName(isa) << " piece " << piece << " at " << first;
          }
        }
        for (int64_t h = 0; h < shape.heads; ++h) {
          const auto one = sequence.Run(ops, 0, shape.length, h, h + 1, window);
          for (int64_t t = 0; t < shape.length; ++t) {
            const int64_t at = t * stride + h * shape.head_dim;
            ASSERT_EQ(std::memcmp(&one[at], &whole[at], shape.head_dim * 4), 0);
            if (h > 0) {
              ASSERT_EQ(one[at - 1], -1.0f);
            }
          }
        }
      }
    }
  }
}

TEST(AttentionTest, EncoderSeesBothWays) {
  for (const int64_t tokens : {1, 5, 32, 33, 100}) {
    const int64_t heads = 4, head_dim = 32, stride = 3 * heads * head_dim;
    const auto qkv = Random(tokens * stride, 9);
    const auto run = [&](const Ops& ops, int64_t begin, int64_t end) {
      std::vector<float> out(static_cast<size_t>(tokens * heads * head_dim));
      ops.encoder_attention(qkv.data(), qkv.data() + heads * head_dim,
                            qkv.data() + 2 * heads * head_dim, stride, tokens,
                            heads, begin, end, head_dim, 0.17f, out.data(),
                            heads * head_dim);
      return out;
    };
    const auto expected = run(ReferenceOps(), 0, heads);
    const auto bits = run(FastOps(Isa::kScalar), 0, heads);
    for (const Isa isa : SupportedIsas()) {
      const auto actual = run(FastOps(isa), 0, heads);
      const auto second = run(FastOps(isa), 1, 2);
      for (size_t i = 0; i < actual.size(); ++i) {
        ASSERT_NEAR(actual[i], expected[i], 1e-5f) << IsaName(isa);
        ASSERT_EQ(std::memcmp(&actual[i], &bits[i], 4), 0) << IsaName(isa);
        if (i % (heads * head_dim) / head_dim == 1) {
          ASSERT_EQ(actual[i], second[i]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace conclave::kernels
