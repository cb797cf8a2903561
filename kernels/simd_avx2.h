// SimdScalar's twin for AVX2, FMA and F16C: sixteen lanes in two registers.
// Include only from *_avx2.cc.
#ifndef CONCLAVE_KERNELS_SIMD_AVX2_H_
#define CONCLAVE_KERNELS_SIMD_AVX2_H_

#include <immintrin.h>

#include <cstdint>

namespace conclave::kernels {

struct SimdAvx2 {
  struct F {
    __m256 lo;  // lanes 0..7
    __m256 hi;  // lanes 8..15
  };

  static F Set1(float v) { return {_mm256_set1_ps(v), _mm256_set1_ps(v)}; }
  static F Load(const float* p) {
    return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
  }
  static F LoadPart(const float* p, int n, float fill) {
    const __m256i lo = Mask(n);
    const __m256i hi = Mask(n - 8);
    const __m256 other = _mm256_set1_ps(fill);
    return {_mm256_blendv_ps(other, _mm256_maskload_ps(p, lo),
                             _mm256_castsi256_ps(lo)),
            _mm256_blendv_ps(other, _mm256_maskload_ps(p + 8, hi),
                             _mm256_castsi256_ps(hi))};
  }
  static F LoadHalf(const uint16_t* p) {
    const auto* from = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(from)),
            _mm256_cvtph_ps(_mm_loadu_si128(from + 1))};
  }
  static F LoadHalfPart(const uint16_t* p, int n) {
    uint16_t whole[16] = {};
    for (int i = 0; i < n; ++i) whole[i] = p[i];
    return LoadHalf(whole);
  }
  static F LoadBf16(const uint16_t* p) {
    const auto* from = reinterpret_cast<const __m128i*>(p);
    return {Bf16(_mm_loadu_si128(from)), Bf16(_mm_loadu_si128(from + 1))};
  }
  static void Store(float* p, F a) {
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
  }
  static void StorePart(float* p, int n, F a) {
    _mm256_maskstore_ps(p, Mask(n), a.lo);
    if (n > 8) _mm256_maskstore_ps(p + 8, Mask(n - 8), a.hi);
  }
  static void StoreHalf(uint16_t* p, F a) {
    auto* to = reinterpret_cast<__m128i*>(p);
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    _mm_storeu_si128(to, _mm256_cvtps_ph(a.lo, kNearest));
    _mm_storeu_si128(to + 1, _mm256_cvtps_ph(a.hi, kNearest));
  }

  static F Add(F a, F b) {
    return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
  }
  static F Sub(F a, F b) {
    return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
  }
  static F Mul(F a, F b) {
    return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
  }
  static F Div(F a, F b) {
    return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
  }
  static F Fma(F a, F b, F c) {
    return {_mm256_fmadd_ps(a.lo, b.lo, c.lo),
            _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
  }
  static F Fnma(F a, F b, F c) {
    return {_mm256_fnmadd_ps(a.lo, b.lo, c.lo),
            _mm256_fnmadd_ps(a.hi, b.hi, c.hi)};
  }
  static F Max(F a, F b) {
    return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
  }
  static F Min(F a, F b) {
    return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
  }
  static F Abs(F a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
  }
  static F CopySign(F a, F b) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {
        _mm256_or_ps(_mm256_andnot_ps(sign, a.lo), _mm256_and_ps(sign, b.lo)),
        _mm256_or_ps(_mm256_andnot_ps(sign, a.hi), _mm256_and_ps(sign, b.hi))};
  }
  static F Round(F a) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(a.lo, kNearest), _mm256_round_ps(a.hi, kNearest)};
  }
  static F IfLess(F a, F b, F yes, F no) {
    return {
        _mm256_blendv_ps(no.lo, yes.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
        _mm256_blendv_ps(no.hi, yes.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
  }
  static F PowerOfTwo(F n) { return {PowerOfTwo(n.lo), PowerOfTwo(n.hi)}; }
  static void ReduceAngle(double position, F freq, F& rest, F& quadrant) {
    ReduceAngle(position, freq.lo, rest.lo, quadrant.lo);
    ReduceAngle(position, freq.hi, rest.hi, quadrant.hi);
  }

  static float ReduceAdd(F a) {
    const __m256 eight = _mm256_add_ps(a.lo, a.hi);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight),
                                   _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float ReduceMax(F a) {
    const __m256 eight = _mm256_max_ps(a.lo, a.hi);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight),
                                   _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  static void QuantizeBlock(const float* x, float inverse, int8_t* q,
                            int32_t sums[2]) {
    const __m256 scale = _mm256_set1_ps(inverse);
    const __m256i a = _mm256_packs_epi32(ToInt(x, scale), ToInt(x + 8, scale));
    const __m256i b =
        _mm256_packs_epi32(ToInt(x + 16, scale), ToInt(x + 24, scale));
    // Packing works in 128-bit halves; the permutation restores the order.
    const __m256i bytes = _mm256_permutevar8x32_epi32(
        _mm256_packs_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), bytes);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
    const __m256i quads = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    sums[0] = Sum(_mm256_castsi256_si128(quads));
    sums[1] = Sum(_mm256_extracti128_si256(quads, 1));
  }

 private:
  // The first n of eight lanes; n may be negative or above eight.
  static __m256i Mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m256 Bf16(__m128i v) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
  }
  static __m256 PowerOfTwo(__m256 n) {
    const __m256i shifted =
        _mm256_castps_si256(_mm256_add_ps(n, _mm256_set1_ps(12582912.0f)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(
        _mm256_add_epi32(shifted, _mm256_set1_epi32(127)), 23));
  }
  static void ReduceAngle(double position, __m256 freq, __m256& rest,
                          __m256& quadrant) {
    __m128 r[2];
    __m128 t[2];
    ReduceAngle(position, _mm256_castps256_ps128(freq), r[0], t[0]);
    ReduceAngle(position, _mm256_extractf128_ps(freq, 1), r[1], t[1]);
    rest = _mm256_set_m128(r[1], r[0]);
    quadrant = _mm256_set_m128(t[1], t[0]);
  }
  static void ReduceAngle(double position, __m128 freq, __m128& rest,
                          __m128& quadrant) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    const __m256d angle =
        _mm256_mul_pd(_mm256_set1_pd(position), _mm256_cvtps_pd(freq));
    const __m256d turns = _mm256_round_pd(
        _mm256_mul_pd(angle, _mm256_set1_pd(0.63661977236758134308)), kNearest);
    __m256d r =
        _mm256_fnmadd_pd(turns, _mm256_set1_pd(1.57079632679489655800), angle);
    r = _mm256_fnmadd_pd(turns, _mm256_set1_pd(6.12323399573676603587e-17), r);
    const __m256d fours =
        _mm256_floor_pd(_mm256_mul_pd(turns, _mm256_set1_pd(0.25)));
    rest = _mm256_cvtpd_ps(r);
    quadrant = _mm256_cvtpd_ps(
        _mm256_sub_pd(turns, _mm256_mul_pd(_mm256_set1_pd(4.0), fours)));
  }
  static __m256i ToInt(const float* x, __m256 scale) {
    __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x), scale);
    v = _mm256_max_ps(v, _mm256_set1_ps(-127.0f));
    v = _mm256_min_ps(v, _mm256_set1_ps(127.0f));
    return _mm256_cvtps_epi32(v);
  }
  static int32_t Sum(__m128i v) {
    v = _mm_add_epi32(v, _mm_unpackhi_epi64(v, v));
    return _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 1)));
  }
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_SIMD_AVX2_H_
