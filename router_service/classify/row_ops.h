// The two loops that training and scoring spend their time in, over rows of
// one float per category. Rows are padded to a multiple of 4 floats and need
// no alignment. Multiply and add stay apart (no fused multiply-add), so every
// processor gets the same bits.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_ROW_OPS_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_ROW_OPS_H_

#include <emmintrin.h>

#include <cstddef>
#include <cstdint>

namespace conclave::router {

// y[0..n) += a * x[0..n); n % 4 == 0.
inline void AddScaled(float a, const float* x, float* y, size_t n) {
  const __m128 va = _mm_set1_ps(a);
  for (size_t i = 0; i < n; i += 4) {
    const __m128 product = _mm_mul_ps(va, _mm_loadu_ps(x + i));
    _mm_storeu_ps(y + i, _mm_add_ps(_mm_loadu_ps(y + i), product));
  }
}

// sum of x[i] * y[i], in four lanes that are added in a fixed order;
// n % 4 == 0.
inline float Dot(const float* x, const float* y, size_t n) {
  __m128 sum = _mm_setzero_ps();
  for (size_t i = 0; i < n; i += 4) {
    sum = _mm_add_ps(sum,
                     _mm_mul_ps(_mm_loadu_ps(x + i), _mm_loadu_ps(y + i)));
  }
  alignas(16) float lanes[4];
  _mm_store_ps(lanes, sum);
  return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_ROW_OPS_H_
