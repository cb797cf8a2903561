#include <immintrin.h>

#include "router_service/classify/add_rows.h"

namespace conclave::router {
namespace {

// Columns 0..3 and 8..11 of 16 lie in the first register, the others in the
// second: unpacking works in 128-bit halves. The ends put them in order.
struct Sums {
  __m256i first, second;
};

inline Sums Load(const int32_t* sums) {
  const auto* const from = reinterpret_cast<const __m256i*>(sums);
  const __m256i a = _mm256_loadu_si256(from);
  const __m256i b = _mm256_loadu_si256(from + 1);
  return {_mm256_permute2x128_si256(a, b, 0x20),
          _mm256_permute2x128_si256(a, b, 0x31)};
}

inline void Store(Sums s, int32_t* sums) {
  auto* const to = reinterpret_cast<__m256i*>(sums);
  _mm256_storeu_si256(to, _mm256_permute2x128_si256(s.first, s.second, 0x20));
  _mm256_storeu_si256(to + 1,
                      _mm256_permute2x128_si256(s.first, s.second, 0x31));
}

inline __m256i Widen(const int8_t* row) {
  return _mm256_cvtepi8_epi16(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(row)));
}

}  // namespace

void AddRowsAvx2(const int8_t* const* rows, const int16_t* values,
                 size_t num_pairs, size_t column, int32_t* sums) {
  Sums sum = Load(sums);
  for (size_t p = 0; p < num_pairs; ++p) {
    int32_t pair = 0;
    __builtin_memcpy(&pair, values + 2 * p, sizeof(pair));
    const __m256i both = _mm256_set1_epi32(pair);
    const __m256i a = Widen(rows[2 * p] + column);
    const __m256i b = Widen(rows[2 * p + 1] + column);
    sum.first = _mm256_add_epi32(
        sum.first, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), both));
    sum.second = _mm256_add_epi32(
        sum.second, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), both));
  }
  Store(sum, sums);
}

}  // namespace conclave::router
