// SimdScalar's twin for AVX-512 (F, BW, DQ, VL): sixteen lanes in one
// register. Include only from *_avx512.cc.
#ifndef CONCLAVE_KERNELS_SIMD_AVX512_H_
#define CONCLAVE_KERNELS_SIMD_AVX512_H_

#include <immintrin.h>

#include <cstdint>

namespace conclave::kernels {

struct SimdAvx512 {
  struct F {
    __m512 v;
  };

  static F Set1(float v) { return {_mm512_set1_ps(v)}; }
  static F Load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static F LoadPart(const float* p, int n, float fill) {
    return {_mm512_mask_loadu_ps(_mm512_set1_ps(fill), Mask(n), p)};
  }
  static F LoadHalf(const uint16_t* p) {
    return {_mm512_cvtph_ps(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static F LoadHalfPart(const uint16_t* p, int n) {
    return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(Mask(n), p))};
  }
  static F LoadBf16(const uint16_t* p) {
    const __m512i wide = _mm512_cvtepu16_epi32(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
  }
  static void Store(float* p, F a) { _mm512_storeu_ps(p, a.v); }
  static void StorePart(float* p, int n, F a) {
    _mm512_mask_storeu_ps(p, Mask(n), a.v);
  }
  static void StoreHalf(uint16_t* p, F a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(a.v, kNearest));
  }

  static F Add(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
  static F Sub(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
  static F Mul(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
  static F Div(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
  static F Fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static F Fnma(F a, F b, F c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
  static F Max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
  static F Min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
  static F Abs(F a) { return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v)}; }
  static F CopySign(F a, F b) {
    const __m512 sign = _mm512_set1_ps(-0.0f);
    return {
        _mm512_or_ps(_mm512_andnot_ps(sign, a.v), _mm512_and_ps(sign, b.v))};
  }
  static F Round(F a) { return {_mm512_roundscale_ps(a.v, kNearest)}; }
  static F IfLess(F a, F b, F yes, F no) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v,
                                 yes.v)};
  }
  static F PowerOfTwo(F n) {
    const __m512i shifted =
        _mm512_castps_si512(_mm512_add_ps(n.v, _mm512_set1_ps(12582912.0f)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(
        _mm512_add_epi32(shifted, _mm512_set1_epi32(127)), 23))};
  }
  static void ReduceAngle(double position, F freq, F& rest, F& quadrant) {
    __m256 r[2];
    __m256 t[2];
    ReduceHalf(position, _mm512_castps512_ps256(freq.v), r[0], t[0]);
    ReduceHalf(position, _mm512_extractf32x8_ps(freq.v, 1), r[1], t[1]);
    rest.v = _mm512_insertf32x8(_mm512_castps256_ps512(r[0]), r[1], 1);
    quadrant.v = _mm512_insertf32x8(_mm512_castps256_ps512(t[0]), t[1], 1);
  }

  static float ReduceAdd(F a) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v),
                                       _mm512_extractf32x8_ps(a.v, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight),
                                   _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float ReduceMax(F a) {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a.v),
                                       _mm512_extractf32x8_ps(a.v, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight),
                                   _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }

  static void QuantizeBlock(const float* x, float inverse, int8_t* q,
                            int32_t sums[2]) {
    const __m512 scale = _mm512_set1_ps(inverse);
    for (int half = 0; half < 2; ++half) {
      __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + 16 * half), scale);
      v = _mm512_max_ps(v, _mm512_set1_ps(-127.0f));
      v = _mm512_min_ps(v, _mm512_set1_ps(127.0f));
      const __m512i wide = _mm512_cvtps_epi32(v);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(q + 16 * half),
                       _mm512_cvtepi32_epi8(wide));
      sums[half] = _mm512_reduce_add_epi32(wide);
    }
  }

 private:
  static constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

  // The first n of sixteen lanes, 0 <= n <= 16.
  static __mmask16 Mask(int n) { return static_cast<__mmask16>((1u << n) - 1); }
  static void ReduceHalf(double position, __m256 freq, __m256& rest,
                         __m256& quadrant) {
    const __m512d angle =
        _mm512_mul_pd(_mm512_set1_pd(position), _mm512_cvtps_pd(freq));
    const __m512d turns = _mm512_roundscale_pd(
        _mm512_mul_pd(angle, _mm512_set1_pd(0.63661977236758134308)), kNearest);
    __m512d r =
        _mm512_fnmadd_pd(turns, _mm512_set1_pd(1.57079632679489655800), angle);
    r = _mm512_fnmadd_pd(turns, _mm512_set1_pd(6.12323399573676603587e-17), r);
    const __m512d fours =
        _mm512_roundscale_pd(_mm512_mul_pd(turns, _mm512_set1_pd(0.25)),
                             _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    rest = _mm512_cvtpd_ps(r);
    quadrant = _mm512_cvtpd_ps(
        _mm512_sub_pd(turns, _mm512_mul_pd(_mm512_set1_pd(4.0), fours)));
  }
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_SIMD_AVX512_H_
