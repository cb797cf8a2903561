// g++ 12's own header starts its unused operands uninitialised, on purpose.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include "kernels/attention_kernel.h"
#include "kernels/isa_kernels.h"
#include "kernels/matmul_kernel.h"
#include "kernels/simd_avx512.h"
#include "kernels/vector_ops.h"

namespace conclave::kernels {
namespace {

// vpdpbusd multiplies unsigned codes by signed activations and adds four
// products to an int32 lane. Q8_0's signed codes are taken as code + 128, and
// 128 times the sum of the activations comes off again (kBias128): the
// integers are AVX2's.
struct MatmulAvx512 {
  using S = SimdAvx512;
  using F = S::F;
  struct Quads {
    __m512i v;
  };
  struct I {
    __m512i v;
  };
  template <QuantType kType>
  static constexpr int Tile() {
    return 8;
  }
  static constexpr int kPlainTile = 12;
  static constexpr bool kBias128 = true;

  static Quads Load(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
  static Quads And(Quads a, Quads b) { return {_mm512_and_si512(a.v, b.v)}; }
  static Quads Or(Quads a, Quads b) { return {_mm512_or_si512(a.v, b.v)}; }
  static Quads Byte(int v) { return {_mm512_set1_epi8(static_cast<char>(v))}; }
  template <int n>
  static Quads Right(Quads a) {
    return {_mm512_srli_epi16(a.v, n)};
  }
  // Left by n, or right by -n.
  template <int n>
  static Quads Shift(Quads a) {
    if constexpr (n < 0) {
      return Right<-n>(a);
    } else {
      return {_mm512_slli_epi16(a.v, n)};
    }
  }

  static F ToFloat(I a) { return {_mm512_cvtepi32_ps(a.v)}; }
  static I SubtractEach(I a, int32_t v) {
    return {_mm512_sub_epi32(a.v, _mm512_set1_epi32(v))};
  }

  // a - 32 * (scale0 * sum16[0] + scale1 * sum16[1]).
  static I SubtractZero32(I a, const uint8_t* scales, const int16_t* sum16) {
    const auto* from = reinterpret_cast<const __m128i*>(scales);
    const __m128i s0 = _mm_loadu_si128(from);
    const __m128i s1 = _mm_loadu_si128(from + 1);
    const __m256i pairs =
        _mm256_set_m128i(_mm_unpackhi_epi8(s0, s1), _mm_unpacklo_epi8(s0, s1));
    const __m512i zero =
        _mm512_madd_epi16(_mm512_cvtepi8_epi16(pairs), Broadcast(sum16));
    return {_mm512_sub_epi32(a.v, _mm512_slli_epi32(zero, 5))};
  }

  // The twelve planes of packed 6-bit scales of Q4_K and Q5_K.
  static void DecodeSubScales(const uint8_t* planes, F d, F negative_min,
                              float scale[8][16], float min[8][16]) {
    const auto* plane = reinterpret_cast<const __m128i*>(planes);
    const __m128i low6 = _mm_set1_epi8(0x3f);
    const __m128i low4 = _mm_set1_epi8(0x0f);
    const __m128i mid2 = _mm_set1_epi8(0x30);
    for (int j = 0; j < 4; ++j) {
      const __m128i a = _mm_loadu_si128(plane + j);
      const __m128i b = _mm_loadu_si128(plane + j + 4);
      const __m128i c = _mm_loadu_si128(plane + j + 8);
      Widen(_mm_and_si128(a, low6), d, scale[j]);
      Widen(_mm_and_si128(b, low6), negative_min, min[j]);
      // The top two bits of a and b, moved to bits 4 and 5.
      const __m128i a2 = _mm_and_si128(_mm_srli_epi16(a, 2), mid2);
      const __m128i b2 = _mm_and_si128(_mm_srli_epi16(b, 2), mid2);
      Widen(_mm_or_si128(_mm_and_si128(c, low4), a2), d, scale[j + 4]);
      Widen(_mm_or_si128(_mm_and_si128(_mm_srli_epi16(c, 4), low4), b2),
            negative_min, min[j + 4]);
    }
  }

  template <int64_t kBytes>
  static void Prefetch(const uint8_t* p) {
    constexpr int64_t kAhead = 1024;
    for (int64_t i = 0; i < kBytes; i += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(p + kAhead + i), _MM_HINT_T0);
    }
  }

  template <QuantType kType, int T>
  [[gnu::always_inline]] static void Dot(const uint8_t* codes,
                                         const uint8_t* scales, const int8_t* x,
                                         int64_t stride, I* sums) {
    for (int t = 0; t < T; ++t) sums[t].v = _mm512_setzero_si512();
    Half<kType, T, 0>(codes, x, stride, sums);
    if constexpr (Format<kType>::kSixBit) {
      I second[T];
      for (int t = 0; t < T; ++t) second[t].v = _mm512_setzero_si512();
      Half<kType, T, 4>(codes, x, stride, second);
      const auto* from = reinterpret_cast<const __m128i*>(scales);
      const __m512i s0 = _mm512_cvtepi8_epi32(_mm_loadu_si128(from));
      const __m512i s1 = _mm512_cvtepi8_epi32(_mm_loadu_si128(from + 1));
      for (int t = 0; t < T; ++t) {
        sums[t].v = _mm512_add_epi32(_mm512_mullo_epi32(sums[t].v, s0),
                                     _mm512_mullo_epi32(second[t].v, s1));
      }
    } else {
      Half<kType, T, 4>(codes, x, stride, sums);
    }
  }

 private:
  // Four activations, or two sums of them, in every 32-bit lane.
  template <typename T>
  static __m512i Broadcast(const T* p) {
    int32_t v;
    __builtin_memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
  }
  static void Widen(__m128i bytes, F factor, float* out) {
    const __m512 wide = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
    _mm512_storeu_ps(out, _mm512_mul_ps(factor.v, wide));
  }

  // K-quads first .. first + 3: sixteen columns.
  template <QuantType kType, int T, int first>
  [[gnu::always_inline]] static void Half(const uint8_t* codes, const int8_t* x,
                                          int64_t stride, I* sums) {
    Step<kType, T, first>(codes, x, stride, sums);
    Step<kType, T, first + 1>(codes, x, stride, sums);
    Step<kType, T, first + 2>(codes, x, stride, sums);
    Step<kType, T, first + 3>(codes, x, stride, sums);
  }
  template <QuantType kType, int T, int q>
  [[gnu::always_inline]] static void Step(const uint8_t* codes, const int8_t* x,
                                          int64_t stride, I* sums) {
    __m512i w = CodesOf<MatmulAvx512, kType, q>(codes).v;
    if constexpr (Format<kType>::kEightBit) {
      w = _mm512_xor_si512(w, _mm512_set1_epi8(static_cast<char>(0x80)));
    }
    for (int t = 0; t < T; ++t) {
      sums[t].v =
          _mm512_dpbusd_epi32(sums[t].v, w, Broadcast(x + t * stride + 4 * q));
    }
  }
};

}  // namespace

const IsaKernels kAvx512Kernels = {
    .quantize = VectorOps<SimdAvx512>::Quantize,
    .matmul = MatmulKernel<MatmulAvx512>::Run,
    .rms_norm = VectorOps<SimdAvx512>::RmsNorm,
    .layer_norm = VectorOps<SimdAvx512>::LayerNorm,
    .add = VectorOps<SimdAvx512>::Add,
    .silu_mul = VectorOps<SimdAvx512>::SiluMul,
    .gelu_tanh_mul = VectorOps<SimdAvx512>::GeluTanhMul,
    .gelu = VectorOps<SimdAvx512>::Gelu,
    .rope = VectorOps<SimdAvx512>::Rope,
    .to_half = VectorOps<SimdAvx512>::ToHalf,
    .attend = AttentionKernel<SimdAvx512>::Attend,
};

}  // namespace conclave::kernels
