// Norms, activations and rotations over sixteen lanes, for any SimdScalar-like
// type. Sums run in sixteen lanes (element i in lane i % 16, ascending) that
// are added by halves at the end: one order on every instruction set.
#ifndef CONCLAVE_KERNELS_VECTOR_OPS_H_
#define CONCLAVE_KERNELS_VECTOR_OPS_H_

#include <cstdint>

#include "kernels/fast_math.h"

namespace conclave::kernels {

template <typename S>
struct VectorOps {
  using F = typename S::F;
  using M = FastMath<S>;

  // body(i) for whole vectors, tail(i, n) for what is left.
  template <typename Body, typename Tail>
  static void ForEach(int64_t n, Body body, Tail tail) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) body(i);
    if (i < n) tail(i, static_cast<int>(n - i));
  }

  static void Quantize(const float* x, int64_t num_blocks, int8_t* q,
                       float* scale, int32_t* sum, float* scaled_sum,
                       int16_t* sum16) {
    for (int64_t b = 0; b < num_blocks; ++b, x += 32, q += 32) {
      const F top = S::Max(S::Abs(S::Load(x)), S::Abs(S::Load(x + 16)));
      const float amax = S::ReduceMax(top);
      // Below 1e-35 the inverse would overflow; such a block is zero.
      const float inverse = amax > 1e-35f ? 127.0f / amax : 0.0f;
      int32_t sums[2];
      S::QuantizeBlock(x, inverse, q, sums);
      scale[b] = amax / 127.0f;
      sum[b] = sums[0] + sums[1];
      scaled_sum[b] = scale[b] * static_cast<float>(sum[b]);
      sum16[2 * b] = static_cast<int16_t>(sums[0]);
      sum16[2 * b + 1] = static_cast<int16_t>(sums[1]);
    }
  }

  static void RmsNorm(const float* x, const float* weight, int64_t n, float eps,
                      float* out) {
    F squares = S::Set1(0.0f);
    ForEach(
        n,
        [&](int64_t i) {
          const F v = S::Load(x + i);
          squares = S::Fma(v, v, squares);
        },
        [&](int64_t i, int left) {
          const F v = S::LoadPart(x + i, left, 0.0f);
          squares = S::Fma(v, v, squares);
        });
    const float mean = S::ReduceAdd(squares) / static_cast<float>(n);
    const F scale = S::Set1(1.0f / __builtin_sqrtf(mean + eps));
    ForEach(
        n,
        [&](int64_t i) {
          S::Store(out + i,
                   S::Mul(S::Mul(S::Load(x + i), scale), S::Load(weight + i)));
        },
        [&](int64_t i, int left) {
          const F v = S::Mul(S::LoadPart(x + i, left, 0.0f), scale);
          S::StorePart(out + i, left,
                       S::Mul(v, S::LoadPart(weight + i, left, 0.0f)));
        });
  }

  static void LayerNorm(const float* x, const float* weight, const float* bias,
                        int64_t n, float eps, float* out) {
    F sums = S::Set1(0.0f);
    ForEach(
        n, [&](int64_t i) { sums = S::Add(sums, S::Load(x + i)); },
        [&](int64_t i, int left) {
          sums = S::Add(sums, S::LoadPart(x + i, left, 0.0f));
        });
    const float mean = S::ReduceAdd(sums) / static_cast<float>(n);
    const F center = S::Set1(mean);
    F squares = S::Set1(0.0f);
    ForEach(
        n,
        [&](int64_t i) {
          const F v = S::Sub(S::Load(x + i), center);
          squares = S::Fma(v, v, squares);
        },
        [&](int64_t i, int left) {
          // Lanes past the end hold the mean: they add nothing.
          const F v = S::Sub(S::LoadPart(x + i, left, mean), center);
          squares = S::Fma(v, v, squares);
        });
    const float var = S::ReduceAdd(squares) / static_cast<float>(n);
    const F scale = S::Set1(1.0f / __builtin_sqrtf(var + eps));
    ForEach(
        n,
        [&](int64_t i) {
          const F v = S::Mul(S::Sub(S::Load(x + i), center), scale);
          S::Store(out + i, S::Fma(v, S::Load(weight + i), S::Load(bias + i)));
        },
        [&](int64_t i, int left) {
          const F v =
              S::Mul(S::Sub(S::LoadPart(x + i, left, mean), center), scale);
          S::StorePart(out + i, left,
                       S::Fma(v, S::LoadPart(weight + i, left, 0.0f),
                              S::LoadPart(bias + i, left, 0.0f)));
        });
  }

  static void Add(float* x, const float* y, int64_t n) {
    ForEach(
        n,
        [&](int64_t i) {
          S::Store(x + i, S::Add(S::Load(x + i), S::Load(y + i)));
        },
        [&](int64_t i, int left) {
          S::StorePart(x + i, left,
                       S::Add(S::LoadPart(x + i, left, 0.0f),
                              S::LoadPart(y + i, left, 0.0f)));
        });
  }

  // out = activation(gate) * up.
  template <typename Activation>
  static void GatedMul(const float* gate, const float* up, int64_t n,
                       float* out, Activation activation) {
    ForEach(
        n,
        [&](int64_t i) {
          S::Store(out + i,
                   S::Mul(activation(S::Load(gate + i)), S::Load(up + i)));
        },
        [&](int64_t i, int left) {
          S::StorePart(out + i, left,
                       S::Mul(activation(S::LoadPart(gate + i, left, 0.0f)),
                              S::LoadPart(up + i, left, 0.0f)));
        });
  }

  static void SiluMul(const float* gate, const float* up, int64_t n,
                      float* out) {
    GatedMul(gate, up, n, out, [](F x) { return M::Silu(x); });
  }

  static void GeluTanhMul(const float* gate, const float* up, int64_t n,
                          float* out) {
    GatedMul(gate, up, n, out, [](F x) { return M::GeluTanh(x); });
  }

  static void Gelu(float* x, int64_t n) {
    ForEach(
        n, [&](int64_t i) { S::Store(x + i, M::Gelu(S::Load(x + i))); },
        [&](int64_t i, int left) {
          S::StorePart(x + i, left, M::Gelu(S::LoadPart(x + i, left, 0.0f)));
        });
  }

  static void Rope(float* x, int64_t num_heads, int64_t head_dim,
                   double position, const float* inv_freq, float magnitude) {
    const int64_t half = head_dim / 2;
    for (int64_t i = 0; i < half; i += 16) {
      const int lanes = half - i < 16 ? static_cast<int>(half - i) : 16;
      F sin;
      F cos;
      M::SinCos(position, S::LoadPart(inv_freq + i, lanes, 0.0f), sin, cos);
      sin = S::Mul(sin, S::Set1(magnitude));
      cos = S::Mul(cos, S::Set1(magnitude));
      for (int64_t h = 0; h < num_heads; ++h) {
        float* low = x + h * head_dim + i;
        float* high = low + half;
        const F a = S::LoadPart(low, lanes, 0.0f);
        const F b = S::LoadPart(high, lanes, 0.0f);
        S::StorePart(low, lanes, S::Fnma(b, sin, S::Mul(a, cos)));
        S::StorePart(high, lanes, S::Fma(a, sin, S::Mul(b, cos)));
      }
    }
  }

  static void ToHalf(const float* x, int64_t n, uint16_t* out) {
    ForEach(
        n, [&](int64_t i) { S::StoreHalf(out + i, S::Load(x + i)); },
        [&](int64_t i, int left) {
          uint16_t rest[16];
          S::StoreHalf(rest, S::LoadPart(x + i, left, 0.0f));
          for (int j = 0; j < left; ++j) out[i + j] = rest[j];
        });
  }
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_VECTOR_OPS_H_
