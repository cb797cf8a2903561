// The loops that training spends its time in, over rows of one float per
// category. Rows are padded to a multiple of 8 and need no
// alignment. Multiply and add stay apart (no fused multiply-add), so every
// processor gets the same bits.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_ROW_OPS_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_ROW_OPS_H_

#include <emmintrin.h>

#include <cstddef>

namespace conclave::router {

// y[0..n) += a * x[0..n); n % 8 == 0.
inline void AddScaled(float a, const float* x, float* y, size_t n) {
  const __m128 va = _mm_set1_ps(a);
  for (size_t i = 0; i < n; i += 4) {
    const __m128 product = _mm_mul_ps(va, _mm_loadu_ps(x + i));
    _mm_storeu_ps(y + i, _mm_add_ps(_mm_loadu_ps(y + i), product));
  }
}

// y[0..n) += a[0] * x0 + .. + a[3] * x3, added in that order: the same bits as
// four calls of AddScaled, with a quarter of the traffic to y.
inline void AddScaled4(const float* a, const float* x0, const float* x1,
                       const float* x2, const float* x3, float* y, size_t n) {
  const __m128 a0 = _mm_set1_ps(a[0]), a1 = _mm_set1_ps(a[1]);
  const __m128 a2 = _mm_set1_ps(a[2]), a3 = _mm_set1_ps(a[3]);
  for (size_t i = 0; i < n; i += 4) {
    __m128 sum = _mm_loadu_ps(y + i);
    sum = _mm_add_ps(sum, _mm_mul_ps(a0, _mm_loadu_ps(x0 + i)));
    sum = _mm_add_ps(sum, _mm_mul_ps(a1, _mm_loadu_ps(x1 + i)));
    sum = _mm_add_ps(sum, _mm_mul_ps(a2, _mm_loadu_ps(x2 + i)));
    sum = _mm_add_ps(sum, _mm_mul_ps(a3, _mm_loadu_ps(x3 + i)));
    _mm_storeu_ps(y + i, sum);
  }
}

// Asks for a row of n values before it is needed.
template <typename T>
inline void PrefetchRow(const T* x, size_t n) {
  for (size_t i = 0; i < n; i += 64 / sizeof(T)) __builtin_prefetch(x + i);
}

// sum of x[i] * y[i], in four lanes that are added in a fixed order;
// n % 8 == 0.
inline float Dot(const float* x, const float* y, size_t n) {
  __m128 sum = _mm_setzero_ps();
  for (size_t i = 0; i < n; i += 4) {
    sum = _mm_add_ps(sum, _mm_mul_ps(_mm_loadu_ps(x + i), _mm_loadu_ps(y + i)));
  }
  alignas(16) float lanes[4];
  _mm_store_ps(lanes, sum);
  return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_ROW_OPS_H_
