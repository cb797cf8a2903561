#include "router_service/classify/add_rows.h"

#include <smmintrin.h>

#include <cstring>

namespace conclave::router {

void AddRowsBaseline(const int8_t* const* rows, const int16_t* values,
                     size_t num_pairs, size_t column, int32_t* sums) {
  auto* const out = reinterpret_cast<__m128i*>(sums);
  __m128i sum[4];
  for (int i = 0; i < 4; ++i) sum[i] = _mm_loadu_si128(out + i);
  for (size_t p = 0; p < num_pairs; ++p) {
    int32_t pair = 0;
    std::memcpy(&pair, values + 2 * p, sizeof(pair));
    const __m128i both = _mm_set1_epi32(pair);
    for (int half = 0; half < 2; ++half) {
      const size_t at = column + 8 * half;
      const __m128i a = _mm_cvtepi8_epi16(_mm_loadu_si64(rows[2 * p] + at));
      const __m128i b = _mm_cvtepi8_epi16(_mm_loadu_si64(rows[2 * p + 1] + at));
      const __m128i low = _mm_madd_epi16(_mm_unpacklo_epi16(a, b), both);
      const __m128i high = _mm_madd_epi16(_mm_unpackhi_epi16(a, b), both);
      sum[2 * half] = _mm_add_epi32(sum[2 * half], low);
      sum[2 * half + 1] = _mm_add_epi32(sum[2 * half + 1], high);
    }
  }
  for (int i = 0; i < 4; ++i) _mm_storeu_si128(out + i, sum[i]);
}

}  // namespace conclave::router
