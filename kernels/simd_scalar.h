// Sixteen fp32 lanes in plain C++. The fast path's vector operations are
// templates over a type like this one (simd_avx2.h, simd_avx512.h are its
// twins): sixteen lanes everywhere, one order of additions, so that every
// instruction set computes the same bits.
#ifndef CONCLAVE_KERNELS_SIMD_SCALAR_H_
#define CONCLAVE_KERNELS_SIMD_SCALAR_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/quant_type.h"

namespace conclave::kernels {

struct SimdScalar {
  struct F {
    float lane[16];
  };

  template <typename Op>
  static F Map(Op op) {
    F r;
    for (int i = 0; i < 16; ++i) r.lane[i] = op(i);
    return r;
  }

  static F Set1(float v) {
    return Map([&](int) { return v; });
  }
  static F Load(const float* p) {
    return Map([&](int i) { return p[i]; });
  }
  // Lanes n and up are `fill`.
  static F LoadPart(const float* p, int n, float fill) {
    return Map([&](int i) { return i < n ? p[i] : fill; });
  }
  static F LoadHalf(const uint16_t* p) {
    return Map([&](int i) { return HalfToFloat(p[i]); });
  }
  static F LoadHalfPart(const uint16_t* p, int n) {
    return Map([&](int i) { return i < n ? HalfToFloat(p[i]) : 0.0f; });
  }
  static void Store(float* p, F a) { std::memcpy(p, a.lane, sizeof(a)); }
  static void StorePart(float* p, int n, F a) {
    for (int i = 0; i < n; ++i) p[i] = a.lane[i];
  }
  static void StoreHalf(uint16_t* p, F a) {
    for (int i = 0; i < 16; ++i) p[i] = FloatToHalf(a.lane[i]);
  }

  static F Add(F a, F b) {
    return Map([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static F Sub(F a, F b) {
    return Map([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static F Mul(F a, F b) {
    return Map([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static F Div(F a, F b) {
    return Map([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  // a * b + c and c - a * b, rounded once.
  static F Fma(F a, F b, F c) {
    return Map(
        [&](int i) { return __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]); });
  }
  static F Fnma(F a, F b, F c) {
    return Map([&](int i) {
      return __builtin_fmaf(-a.lane[i], b.lane[i], c.lane[i]);
    });
  }
  // The second operand when either is NaN, as x86 has it.
  static F Max(F a, F b) {
    return Map(
        [&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F Min(F a, F b) {
    return Map(
        [&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F Abs(F a) {
    return Map([&](int i) { return __builtin_fabsf(a.lane[i]); });
  }
  // The magnitude of a with the sign of b.
  static F CopySign(F a, F b) {
    return Map(
        [&](int i) { return __builtin_copysignf(a.lane[i], b.lane[i]); });
  }
  // To the nearest integer, ties to even.
  static F Round(F a) {
    return Map([&](int i) { return __builtin_nearbyintf(a.lane[i]); });
  }
  // a < b ? yes : no
  static F IfLess(F a, F b, F yes, F no) {
    return Map([&](int i) {
      return a.lane[i] < b.lane[i] ? yes.lane[i] : no.lane[i];
    });
  }
  // 2^n, for integral n in [-126, 127].
  static F PowerOfTwo(F n) {
    return Map([&](int i) {
      // The low bits of n + 1.5 * 2^23 are n.
      const float shifted = n.lane[i] + 12582912.0f;
      uint32_t bits;
      std::memcpy(&bits, &shifted, 4);
      bits = (bits + 127) << 23;
      float power;
      std::memcpy(&power, &bits, 4);
      return power;
    });
  }
  // angle = position * freq, in double; angle = quadrant * pi/2 + rest, with
  // rest in [-pi/4, pi/4] and quadrant in 0..3.
  static void ReduceAngle(double position, F freq, F& rest, F& quadrant) {
    for (int i = 0; i < 16; ++i) {
      const double angle = position * static_cast<double>(freq.lane[i]);
      const double turns = __builtin_nearbyint(angle * kTwoOverPi);
      double r = __builtin_fma(-turns, kHalfPiHigh, angle);
      r = __builtin_fma(-turns, kHalfPiLow, r);
      rest.lane[i] = static_cast<float>(r);
      quadrant.lane[i] =
          static_cast<float>(turns - 4 * __builtin_floor(turns * 0.25));
    }
  }

  // Halves are added until one lane is left: 16, 8, 4, 2, 1.
  static float ReduceAdd(F a) {
    for (int width = 8; width > 0; width /= 2) {
      for (int i = 0; i < width; ++i) a.lane[i] += a.lane[i + width];
    }
    return a.lane[0];
  }
  static float ReduceMax(F a) {
    for (int width = 8; width > 0; width /= 2) {
      for (int i = 0; i < width; ++i) {
        const float other = a.lane[i + width];
        a.lane[i] = a.lane[i] > other ? a.lane[i] : other;
      }
    }
    return a.lane[0];
  }

  // One block of 32 as int8, round(x * inverse) kept in [-127, 127] (a NaN
  // becomes -127); sums of the first and the second 16.
  static void QuantizeBlock(const float* x, float inverse, int8_t* q,
                            int32_t sums[2]) {
    for (int half = 0; half < 2; ++half) {
      int32_t sum = 0;
      for (int i = 16 * half; i < 16 * half + 16; ++i) {
        float v = x[i] * inverse;
        v = v > -127.0f ? v : -127.0f;
        v = v < 127.0f ? v : 127.0f;
        q[i] = static_cast<int8_t>(__builtin_nearbyintf(v));
        sum += q[i];
      }
      sums[half] = sum;
    }
  }

  static constexpr double kTwoOverPi = 0.63661977236758134308;
  static constexpr double kHalfPiHigh = 1.57079632679489655800;
  static constexpr double kHalfPiLow = 6.12323399573676603587e-17;
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_SIMD_SCALAR_H_
