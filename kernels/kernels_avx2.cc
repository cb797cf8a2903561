#include <immintrin.h>

#include "kernels/attention_kernel.h"
#include "kernels/isa_kernels.h"
#include "kernels/matmul_kernel.h"
#include "kernels/simd_avx2.h"
#include "kernels/vector_ops.h"

namespace conclave::kernels {
namespace {

// Unsigned codes times signed activations: vpmaddubsw gives sums of two
// products in int16. Codes up to 15, 31 and 63 leave room to add 8, 4 and 2
// K-quads there (2 * 15 * 127 * 8 = 30480) before vpmaddwd widens them. Q8_0
// is signed: |w| times x with w's sign, one K-quad at a time.
struct MatmulAvx2 {
  using S = SimdAvx2;
  using F = S::F;
  struct Quads {
    __m256i lo;  // rows 0..7
    __m256i hi;  // rows 8..15
  };
  struct I {
    __m256i lo;
    __m256i hi;
  };
  // Measured: 4 tokens for 4-bit codes (6 spill more than they save), 6 where
  // decoding costs more.
  template <QuantType kType>
  static constexpr int Tile() {
    return Format<kType>::kEightBit || Format<kType>::kHighBits == 1 ? 6 : 4;
  }
  static constexpr int kPlainTile = 6;
  static constexpr bool kBias128 = false;

  static Quads Load(const uint8_t* p) {
    const auto* from = reinterpret_cast<const __m256i*>(p);
    return {_mm256_load_si256(from), _mm256_load_si256(from + 1)};
  }
  static Quads And(Quads a, Quads b) {
    return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
  }
  static Quads Or(Quads a, Quads b) {
    return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
  }
  static Quads Byte(int v) {
    const __m256i all = _mm256_set1_epi8(static_cast<char>(v));
    return {all, all};
  }
  template <int n>
  static Quads Right(Quads a) {
    return {_mm256_srli_epi16(a.lo, n), _mm256_srli_epi16(a.hi, n)};
  }
  // Left by n, or right by -n.
  template <int n>
  static Quads Shift(Quads a) {
    if constexpr (n < 0) {
      return Right<-n>(a);
    } else {
      return {_mm256_slli_epi16(a.lo, n), _mm256_slli_epi16(a.hi, n)};
    }
  }

  static F ToFloat(I a) {
    return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
  }
  static I SubtractEach(I a, int32_t v) {
    const __m256i all = _mm256_set1_epi32(v);
    return {_mm256_sub_epi32(a.lo, all), _mm256_sub_epi32(a.hi, all)};
  }

  // a - 32 * (scale0 * sum16[0] + scale1 * sum16[1]).
  static I SubtractZero32(I a, const uint8_t* scales, const int16_t* sum16) {
    const auto* from = reinterpret_cast<const __m128i*>(scales);
    const __m128i s0 = _mm_load_si128(from);
    const __m128i s1 = _mm_load_si128(from + 1);
    const __m256i sums = Broadcast(sum16);
    const __m256i lo = _mm256_madd_epi16(
        _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(s0, s1)), sums);
    const __m256i hi = _mm256_madd_epi16(
        _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(s0, s1)), sums);
    return {_mm256_sub_epi32(a.lo, _mm256_slli_epi32(lo, 5)),
            _mm256_sub_epi32(a.hi, _mm256_slli_epi32(hi, 5))};
  }

  // The twelve planes of packed 6-bit scales of Q4_K and Q5_K.
  static void DecodeSubScales(const uint8_t* planes, F d, F negative_min,
                              float scale[8][16], float min[8][16]) {
    const auto* plane = reinterpret_cast<const __m128i*>(planes);
    const __m128i low6 = _mm_set1_epi8(0x3f);
    const __m128i low4 = _mm_set1_epi8(0x0f);
    const __m128i mid2 = _mm_set1_epi8(0x30);
    for (int j = 0; j < 4; ++j) {
      const __m128i a = _mm_load_si128(plane + j);
      const __m128i b = _mm_load_si128(plane + j + 4);
      const __m128i c = _mm_load_si128(plane + j + 8);
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

  // How many K-quads may be added in int16.
  template <QuantType kType>
  static constexpr int Group() {
    using Type = Format<kType>;
    if (Type::kEightBit) return 1;
    return Type::kHighBits == 2 ? 2 : Type::kHighBits == 1 ? 4 : 8;
  }

  template <QuantType kType, int T>
  [[gnu::always_inline]] static void Dot(const uint8_t* codes,
                                         const uint8_t* scales, const int8_t* x,
                                         int64_t stride, I* sums) {
    constexpr int kGroup = Group<kType>();
    I pairs[T];  // sixteen int16 in each half
    Step<kType, T, 0, kGroup>(codes, scales, x, stride, pairs, sums);
    Step<kType, T, 1, kGroup>(codes, scales, x, stride, pairs, sums);
    Step<kType, T, 2, kGroup>(codes, scales, x, stride, pairs, sums);
    Step<kType, T, 3, kGroup>(codes, scales, x, stride, pairs, sums);
    Step<kType, T, 4, kGroup>(codes, scales, x, stride, pairs, sums);
    Step<kType, T, 5, kGroup>(codes, scales, x, stride, pairs, sums);
    Step<kType, T, 6, kGroup>(codes, scales, x, stride, pairs, sums);
    Step<kType, T, 7, kGroup>(codes, scales, x, stride, pairs, sums);
  }

 private:
  // Four activations, or two sums of them, in every 32-bit lane.
  template <typename T>
  static __m256i Broadcast(const T* p) {
    int32_t v;
    __builtin_memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
  }
  static void Widen(__m128i bytes, F factor, float* out) {
    const __m256i lo = _mm256_cvtepu8_epi32(bytes);
    const __m256i hi = _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(bytes, bytes));
    _mm256_store_ps(out, _mm256_mul_ps(factor.lo, _mm256_cvtepi32_ps(lo)));
    _mm256_store_ps(out + 8, _mm256_mul_ps(factor.hi, _mm256_cvtepi32_ps(hi)));
  }

  // Ends an addition here. Without it the compiler turns the chain into a tree
  // whose leaves spill: 2.5 times slower.
  static void Settle(I& a) { asm("" : "+x"(a.lo), "+x"(a.hi)); }

  template <QuantType kType, int T, int q, int kGroup>
  [[gnu::always_inline]] static void Step(const uint8_t* codes,
                                          const uint8_t* scales,
                                          const int8_t* x, int64_t stride,
                                          I* pairs, I* sums) {
    const Quads w = CodesOf<MatmulAvx2, kType, q>(codes);
    constexpr bool kSigned = Format<kType>::kEightBit;
    const Quads magnitude =
        kSigned ? Quads{_mm256_abs_epi8(w.lo), _mm256_abs_epi8(w.hi)} : w;
    for (int t = 0; t < T; ++t) {
      const __m256i v = Broadcast(x + t * stride + 4 * q);
      const __m256i lo = _mm256_maddubs_epi16(
          magnitude.lo, kSigned ? _mm256_sign_epi8(v, w.lo) : v);
      const __m256i hi = _mm256_maddubs_epi16(
          magnitude.hi, kSigned ? _mm256_sign_epi8(v, w.hi) : v);
      if constexpr (q % kGroup == 0) {
        pairs[t] = {lo, hi};
      } else {
        pairs[t] = {_mm256_add_epi16(pairs[t].lo, lo),
                    _mm256_add_epi16(pairs[t].hi, hi)};
        Settle(pairs[t]);
      }
    }
    if constexpr (q % kGroup == kGroup - 1) {
      // Widening multiplies by one, or by Q6_K's scale of these 16 columns.
      Quads factor = {_mm256_set1_epi16(1), _mm256_set1_epi16(1)};
      if constexpr (Format<kType>::kSixBit) {
        const __m128i s =
            _mm_load_si128(reinterpret_cast<const __m128i*>(scales) + q / 4);
        factor = {_mm256_cvtepi8_epi16(_mm_unpacklo_epi8(s, s)),
                  _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(s, s))};
      }
      for (int t = 0; t < T; ++t) {
        const __m256i lo = _mm256_madd_epi16(pairs[t].lo, factor.lo);
        const __m256i hi = _mm256_madd_epi16(pairs[t].hi, factor.hi);
        if constexpr (q < kGroup) {
          sums[t] = {lo, hi};
        } else {
          sums[t] = {_mm256_add_epi32(sums[t].lo, lo),
                     _mm256_add_epi32(sums[t].hi, hi)};
          Settle(sums[t]);
        }
      }
    }
  }
};

}  // namespace

const IsaKernels kAvx2Kernels = {
    .quantize = VectorOps<SimdAvx2>::Quantize,
    .matmul = MatmulKernel<MatmulAvx2>::Run,
    .rms_norm = VectorOps<SimdAvx2>::RmsNorm,
    .layer_norm = VectorOps<SimdAvx2>::LayerNorm,
    .add = VectorOps<SimdAvx2>::Add,
    .silu_mul = VectorOps<SimdAvx2>::SiluMul,
    .gelu_tanh_mul = VectorOps<SimdAvx2>::GeluTanhMul,
    .gelu = VectorOps<SimdAvx2>::Gelu,
    .rope = VectorOps<SimdAvx2>::Rope,
    .to_half = VectorOps<SimdAvx2>::ToHalf,
    .attend = AttentionKernel<SimdAvx2>::Attend,
};

}  // namespace conclave::kernels
