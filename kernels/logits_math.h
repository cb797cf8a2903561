// Reductions over one row of logits, in double, in one fixed order, without
// the C library's exp (whose last bit depends on the processor).
#ifndef CONCLAVE_KERNELS_LOGITS_MATH_H_
#define CONCLAVE_KERNELS_LOGITS_MATH_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace conclave::kernels {

struct MaxLogit {
  int32_t token = 0;
  float value = 0;
  // No NaN anywhere and the largest is not infinite: a distribution exists.
  bool valid = false;
};

// The largest logit; ties go to the lower id. `logits` is not empty.
MaxLogit FindMax(std::span<const float> logits);

// out[i] = exp((logits[i] - max) * scale), within 2 units in the last place;
// 0 below exp(-700). Every (logits[i] - max) * scale must be <= 0.
void ExpWeights(std::span<const float> logits, float max, double scale,
                double* out);

// Tokens a block; ExpWeights runs block by block so that no array of the
// vocabulary's length is needed.
inline constexpr size_t kLogitBlock = 256;

// sum_i exp(logits[i] - max): within each block ascending, blocks ascending.
double SumExp(std::span<const float> logits, float max, double scale);

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_LOGITS_MATH_H_
