// Reductions in one fixed shape: eight sums in double, element i in sum i % 8,
// added by halves. The same bits for any compiler, batch and processor.
#ifndef CONCLAVE_KERNELS_GATE_FIXED_SUM_H_
#define CONCLAVE_KERNELS_GATE_FIXED_SUM_H_

#include <cstdint>

namespace conclave::kernels {

inline double FixedDot(const float* a, const float* b, int64_t n) {
  double sum[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int64_t lane = 0; lane < 8; ++lane) {
      sum[lane] += double{a[i + lane]} * double{b[i + lane]};
    }
  }
  for (int64_t lane = 0; i < n; ++i, ++lane) {
    sum[lane] += double{a[i]} * double{b[i]};
  }
  for (int64_t half = 4; half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) sum[lane] += sum[lane + half];
  }
  return sum[0];
}

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_FIXED_SUM_H_
