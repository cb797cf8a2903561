// Matrix products over panels (packed_layout.h), for any instruction set `P`
// that provides:
//
//   P::S        the sixteen lanes (simd_avx2.h)
//   P::Quads    64 bytes of codes: one K-quad of 16 rows
//     Load, And, Or, Byte(mask), Right<n> and Shift<n> (left, or right by -n)
//     of 16-bit elements
//   P::I        sixteen int32: ToFloat(I), SubtractEach(I, int32)
//   P::Tile<kType>(), P::kPlainTile    most tokens worked on together
//   P::Dot<kType, T>(codes, scales, x, stride, sums)
//               sums[t] = codes . x[t] over 32 columns; for Q6_K with the two
//               sub-scales multiplied in
//   P::SubtractZero32(sums, scales, sum16)   Q6_K's zero point
//   P::DecodeSubScales                       Q4_K's and Q5_K's 6-bit scales
//   P::kBias128   whether Dot takes Q8_0 as code + 128
//
// T tokens share a tile: the weights are decoded once for all of them, and a
// token's chain of operations is the same for every T.
#ifndef CONCLAVE_KERNELS_MATMUL_KERNEL_H_
#define CONCLAVE_KERNELS_MATMUL_KERNEL_H_

#include <cstddef>
#include <cstdint>

#include "kernels/isa_kernels.h"

namespace conclave::kernels {

// What the template needs to know of a type at compile time. It repeats
// ShapeOf, and the tests compare every panel with it.
template <QuantType kType>
struct Format {
  static constexpr bool kSuper = kType == QuantType::kQ4_K ||
                                 kType == QuantType::kQ5_K ||
                                 kType == QuantType::kQ6_K;
  static constexpr bool kSubScales =  // 6-bit scales and minima
      kType == QuantType::kQ4_K || kType == QuantType::kQ5_K;
  static constexpr bool kSixBit = kType == QuantType::kQ6_K;
  static constexpr bool kEightBit = kType == QuantType::kQ8_0;
  static constexpr bool kHasMin =
      kSubScales || kType == QuantType::kQ4_1 || kType == QuantType::kQ5_1;
  static constexpr int kHighBits = kSixBit ? 2
                                   : kType == QuantType::kQ5_0 ||
                                           kType == QuantType::kQ5_1 ||
                                           kType == QuantType::kQ5_K
                                       ? 1
                                       : 0;
  // Codes less this are the integers; Q8_0's are signed already.
  static constexpr int kZero = kType == QuantType::kQ4_0   ? 8
                               : kType == QuantType::kQ5_0 ? 16
                                                           : 0;
  static constexpr int kBlocks = kSuper ? 8 : 1;  // of 32, in a record
  static constexpr int64_t kHeaderBytes =
      (kHasMin ? 64 : 32) + (kSubScales ? 12 * 16
                             : kSixBit  ? 16 * 16
                                        : 0);
  static constexpr int64_t kLowBytes = kEightBit ? 512 : 256;
  static constexpr int64_t kCodeBytes = kLowBytes + 64 * kHighBits;
};

// K-quad q's codes, as unsigned bytes (signed for Q8_0).
template <typename P, QuantType kType, int q>
typename P::Quads CodesOf(const uint8_t* codes) {
  using T = Format<kType>;
  if constexpr (T::kEightBit) {
    return P::Load(codes + 64 * q);
  } else {
    typename P::Quads low = P::Load(codes + 64 * (q / 2));
    if constexpr (q % 2 == 1) low = P::template Right<4>(low);
    low = P::And(low, P::Byte(0x0f));
    if constexpr (T::kHighBits == 1) {
      const typename P::Quads high = P::Load(codes + T::kLowBytes);
      return P::Or(low, P::And(P::template Shift<4 - q>(high), P::Byte(0x10)));
    } else if constexpr (T::kHighBits == 2) {
      const typename P::Quads high = P::Load(codes + T::kLowBytes + q / 4 * 64);
      return P::Or(
          low, P::And(P::template Shift<4 - 2 * (q % 4)>(high), P::Byte(0x30)));
    } else {
      return low;
    }
  }
}

template <typename P>
class MatmulKernel {
 public:
  static void Run(const TokenView& x, const PanelView& w) {
    switch (w.type) {
      case QuantType::kF32:
      case QuantType::kF16:
      case QuantType::kBF16:
        return Plain(x, w);
      case QuantType::kQ4_0:
        return Quantized<QuantType::kQ4_0>(x, w);
      case QuantType::kQ4_1:
        return Quantized<QuantType::kQ4_1>(x, w);
      case QuantType::kQ5_0:
        return Quantized<QuantType::kQ5_0>(x, w);
      case QuantType::kQ5_1:
        return Quantized<QuantType::kQ5_1>(x, w);
      case QuantType::kQ8_0:
        return Quantized<QuantType::kQ8_0>(x, w);
      case QuantType::kQ4_K:
        return Quantized<QuantType::kQ4_K>(x, w);
      case QuantType::kQ5_K:
        return Quantized<QuantType::kQ5_K>(x, w);
      case QuantType::kQ6_K:
        return Quantized<QuantType::kQ6_K>(x, w);
    }
  }

 private:
  using S = typename P::S;
  using F = typename S::F;
  using I = typename P::I;
  static constexpr int64_t kRows = 16;
  static constexpr int64_t kCachedTokenBytes = 128 << 10;

  // One panel's work: its bytes and the place of its first output.
  struct Panel {
    const uint8_t* data;
    float* out;
    int num_rows;
  };
  static Panel PanelAt(const PanelView& w, int64_t row) {
    const int64_t left = w.num_rows - row;
    return {
        reinterpret_cast<const uint8_t*>(w.data) + row / kRows * w.panel_bytes,
        w.out + row, left < kRows ? static_cast<int>(left) : 16};
  }
  static void Put(float* out, int num_rows, F v) {
    if (num_rows == 16) {
      S::Store(out, v);
    } else {
      S::StorePart(out, num_rows, v);
    }
  }

  // The largest power of two below a tile: what is left over is done in tiles
  // of that, its half, and so on. (One tile per remainder compiles for twice
  // as long and gains little.)
  static constexpr int Half(int tile) {
    int half = 1;
    while (2 * half < tile) half *= 2;
    return half;
  }

  // ---- Quantised weights ----

  // Tokens are cut so that their int8 values stay in the second-level cache
  // while all panels pass by.
  template <QuantType kType>
  static void Quantized(const TokenView& x, const PanelView& w) {
    constexpr int kTile = P::template Tile<kType>();
    const int64_t fitting = kCachedTokenBytes / x.stride / kTile * kTile;
    const int64_t step = fitting < kTile ? kTile : fitting;
    for (int64_t begin = 0; begin < x.m; begin += step) {
      const int64_t end = begin + step < x.m ? begin + step : x.m;
      for (int64_t row = 0; row < w.num_rows; row += kRows) {
        const Panel panel = PanelAt(w, row);
        int64_t token = begin;
        for (; token + kTile <= end; token += kTile) {
          Tile<kType, kTile>(x, token, w, panel);
        }
        Rest<kType, Half(kTile)>(x, token, end - token, w, panel);
      }
    }
  }

  // The last `left` < 2T tokens, in tiles of T, T/2, .. 1.
  template <QuantType kType, int T>
  static void Rest(const TokenView& x, int64_t token, int64_t left,
                   const PanelView& w, const Panel& panel) {
    if constexpr (T > 0) {
      if (left >= T) {
        Tile<kType, T>(x, token, w, panel);
        token += T;
        left -= T;
      }
      Rest<kType, T / 2>(x, token, left, w, panel);
    }
  }

  // A super-block's scales and minima in fp32, for its eight blocks.
  struct SubScales {
    alignas(64) float scale[8][16];
    alignas(64) float min[8][16];
  };

  template <QuantType kType, int T>
  static void Tile(const TokenView& x, int64_t token, const PanelView& w,
                   const Panel& panel) {
    using Type = Format<kType>;
    const int8_t* q = x.q + token * x.stride;
    const int64_t blocks = x.stride / 32;
    const float* scale = x.scale + token * blocks;
    const float* scaled_sum = x.scaled_sum + token * blocks;
    const int32_t* sum = x.sum + token * blocks;
    const int16_t* sum16 = x.sum16 + token * 2 * blocks;

    F acc[T];
    for (int t = 0; t < T; ++t) acc[t] = S::Set1(0.0f);
    SubScales sub;
    const uint8_t* p = panel.data;
    const int64_t num_records = w.cols / (32 * Type::kBlocks);
    int64_t block = 0;
    for (int64_t record = 0; record < num_records; ++record) {
      const uint8_t* header = p;
      const F d = S::LoadHalf(reinterpret_cast<const uint16_t*>(header));
      F min = d;
      if constexpr (Type::kHasMin) {
        min = S::LoadHalf(reinterpret_cast<const uint16_t*>(header + 32));
      }
      if constexpr (Type::kSubScales) {
        P::DecodeSubScales(header + 64, d, S::Sub(S::Set1(-0.0f), min),
                           sub.scale, sub.min);
      }
      p += Type::kHeaderBytes;
      for (int j = 0; j < Type::kBlocks; ++j, ++block) {
        if constexpr (T <= 2) P::template Prefetch<Type::kCodeBytes>(p);
        const uint8_t* sixteens = header + 32 + 32 * j;
        I sums[T];
        P::template Dot<kType, T>(p, sixteens, q + 32 * block, x.stride, sums);
        F weight_scale = d;
        if constexpr (Type::kSubScales) {
          weight_scale = S::Load(sub.scale[j]);
          min = S::Load(sub.min[j]);
        }
        for (int t = 0; t < T; ++t) {
          const int64_t at = t * blocks + block;
          if constexpr (Type::kZero != 0) {
            sums[t] = P::SubtractEach(sums[t], Type::kZero * sum[at]);
          }
          if constexpr (Type::kEightBit && P::kBias128) {
            sums[t] = P::SubtractEach(sums[t], 128 * sum[at]);
          }
          if constexpr (Type::kSixBit) {
            sums[t] = P::SubtractZero32(sums[t], sixteens, sum16 + 2 * at);
          }
          acc[t] = S::Fma(P::ToFloat(sums[t]),
                          S::Mul(weight_scale, S::Set1(scale[at])), acc[t]);
          if constexpr (Type::kHasMin) {
            acc[t] = S::Fma(min, S::Set1(scaled_sum[at]), acc[t]);
          }
        }
        p += Type::kCodeBytes;
      }
    }
    float* out = panel.out + token * w.out_stride;
    for (int t = 0; t < T; ++t) {
      Put(out + t * w.out_stride, panel.num_rows, acc[t]);
    }
  }

  // ---- Plain weights: fp32 fused multiply-adds over ascending columns ----

  static void Plain(const TokenView& x, const PanelView& w) {
    int64_t row = 0;
    // One token is bound by the latency of its chain: four panels at once.
    if (x.m == 1) {
      for (; row + 4 * kRows <= w.num_rows; row += 4 * kRows) {
        PlainTile<1, 4>(x, 0, w, row);
      }
    }
    for (; row < w.num_rows; row += kRows) {
      int64_t token = 0;
      for (; token + P::kPlainTile <= x.m; token += P::kPlainTile) {
        PlainTile<P::kPlainTile, 1>(x, token, w, row);
      }
      PlainRest<Half(P::kPlainTile)>(x, token, w, row);
    }
  }

  template <int T>
  static void PlainRest(const TokenView& x, int64_t token, const PanelView& w,
                        int64_t row) {
    if constexpr (T > 0) {
      if (x.m - token >= T) {
        PlainTile<T, 1>(x, token, w, row);
        token += T;
      }
      PlainRest<T / 2>(x, token, w, row);
    }
  }

  template <int T, int N>
  static void PlainTile(const TokenView& x, int64_t token, const PanelView& w,
                        int64_t row) {
    switch (w.type) {
      case QuantType::kF32:
        return PlainTileOf<float, T, N>(
            x, token, w, row, [](const float* p) { return S::Load(p); });
      case QuantType::kF16:
        return PlainTileOf<uint16_t, T, N>(
            x, token, w, row, [](const uint16_t* p) { return S::LoadHalf(p); });
      default:
        return PlainTileOf<uint16_t, T, N>(
            x, token, w, row, [](const uint16_t* p) { return S::LoadBf16(p); });
    }
  }

  // T tokens times N panels.
  template <typename Element, int T, int N, typename LoadLanes>
  static void PlainTileOf(const TokenView& x, int64_t token, const PanelView& w,
                          int64_t row, LoadLanes load) {
    const Element* weights[N];
    Panel panels[N];
    for (int n = 0; n < N; ++n) {
      panels[n] = PanelAt(w, row + n * kRows);
      weights[n] = reinterpret_cast<const Element*>(panels[n].data);
    }
    const float* values = x.f32 + token * x.stride;
    F acc[T][N];
    for (int t = 0; t < T; ++t) {
      for (int n = 0; n < N; ++n) acc[t][n] = S::Set1(0.0f);
    }
    for (int64_t c = 0; c < w.cols; ++c) {
      for (int n = 0; n < N; ++n) {
        const F weight = load(weights[n] + c * kRows);
        for (int t = 0; t < T; ++t) {
          acc[t][n] =
              S::Fma(weight, S::Set1(values[t * x.stride + c]), acc[t][n]);
        }
      }
    }
    for (int t = 0; t < T; ++t) {
      for (int n = 0; n < N; ++n) {
        Put(panels[n].out + (token + t) * w.out_stride, panels[n].num_rows,
            acc[t][n]);
      }
    }
  }
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_MATMUL_KERNEL_H_
