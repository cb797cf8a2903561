#include "kernels/logits_math.h"

#include <smmintrin.h>  // SSE4.1: part of the baseline, x86-64-v2

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace conclave::kernels {
namespace {

// exp of two values <= 0: x = k ln 2 + r, |r| <= ln 2 / 2, a Taylor series of
// degree 13 in r (the next term is below 2^-57), times 2^k.
__m128d Exp(__m128d x) {
  const __m128d log2e = _mm_set1_pd(1.4426950408889634074);
  // ln 2 in two parts; the high one has 21 zero bits at its end, so that
  // k * high is exact.
  const __m128d ln2_high = _mm_set1_pd(6.93147180369123816490e-01);
  const __m128d ln2_low = _mm_set1_pd(1.90821492927058770002e-10);
  const __m128d limit = _mm_set1_pd(-700.0);
  const __m128d in_range = _mm_cmpge_pd(x, limit);
  x = _mm_max_pd(x, limit);
  const __m128d k = _mm_round_pd(_mm_mul_pd(x, log2e),
                                 _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m128d r = _mm_sub_pd(x, _mm_mul_pd(k, ln2_high));
  r = _mm_sub_pd(r, _mm_mul_pd(k, ln2_low));
  static constexpr std::array<double, 14> kInverseFactorials = {
      1.0 / 6227020800,
      1.0 / 479001600,
      1.0 / 39916800,
      1.0 / 3628800,
      1.0 / 362880,
      1.0 / 40320,
      1.0 / 5040,
      1.0 / 720,
      1.0 / 120,
      1.0 / 24,
      1.0 / 6,
      1.0 / 2,
      1.0,
      1.0};
  __m128d p = _mm_set1_pd(kInverseFactorials[0]);
  for (size_t i = 1; i < kInverseFactorials.size(); ++i) {
    p = _mm_add_pd(_mm_mul_pd(p, r), _mm_set1_pd(kInverseFactorials[i]));
  }
  // 2^k by its exponent bits: k is in [-1010, 0].
  const __m128i exponent =
      _mm_slli_epi64(_mm_cvtepi32_epi64(_mm_add_epi32(_mm_cvtpd_epi32(k),
                                                      _mm_set1_epi32(1023))),
                     52);
  p = _mm_mul_pd(p, _mm_castsi128_pd(exponent));
  return _mm_and_pd(p, in_range);
}

}  // namespace

MaxLogit FindMax(std::span<const float> logits) {
  const float* data = logits.data();
  const size_t n = logits.size();
  __m128 best = _mm_set1_ps(-std::numeric_limits<float>::infinity());
  __m128 nan = _mm_setzero_ps();
  size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    const __m128 x = _mm_loadu_ps(data + i);
    best = _mm_max_ps(best, x);
    nan = _mm_or_ps(nan, _mm_cmpunord_ps(x, x));
  }
  bool any_nan = _mm_movemask_ps(nan) != 0;
  std::array<float, 4> lanes;
  _mm_storeu_ps(lanes.data(), best);
  float max = *std::max_element(lanes.begin(), lanes.end());
  for (; i < n; ++i) {
    any_nan = any_nan || std::isnan(data[i]);
    max = std::max(max, data[i]);
  }
  MaxLogit result;
  if (any_nan) return result;
  result.value = max;
  result.token = static_cast<int32_t>(std::find(data, data + n, max) - data);
  result.valid = std::isfinite(max);
  return result;
}

void ExpWeights(std::span<const float> logits, float max, double scale,
                double* out) {
  const __m128d offset = _mm_set1_pd(static_cast<double>(max));
  const __m128d factor = _mm_set1_pd(scale);
  const auto weigh = [&](double a, double b) {
    return Exp(_mm_mul_pd(_mm_sub_pd(_mm_setr_pd(a, b), offset), factor));
  };
  const size_t n = logits.size();
  size_t i = 0;
  for (; i + 2 <= n; i += 2) {
    _mm_storeu_pd(out + i, weigh(static_cast<double>(logits[i]),
                                 static_cast<double>(logits[i + 1])));
  }
  if (i < n) {
    const double last = static_cast<double>(logits[i]);
    _mm_store_sd(out + i, weigh(last, last));
  }
}

double SumExp(std::span<const float> logits, float max, double scale) {
  std::array<double, kLogitBlock> weights;
  double total = 0;
  for (size_t begin = 0; begin < logits.size(); begin += kLogitBlock) {
    const size_t count = std::min(kLogitBlock, logits.size() - begin);
    ExpWeights(logits.subspan(begin, count), max, scale, weights.data());
    double sum = 0;
    for (size_t i = 0; i < count; ++i) sum += weights[i];
    total += sum;
  }
  return total;
}

}  // namespace conclave::kernels
