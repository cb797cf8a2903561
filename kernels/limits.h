// What the kernels can do, for those who check models before they are run.
#ifndef CONCLAVE_KERNELS_LIMITS_H_
#define CONCLAVE_KERNELS_LIMITS_H_

#include <cstdint>

namespace conclave::kernels {

// Attention keeps a head's output and its half-precision form on the stack.
inline constexpr int64_t kMaxHeadDim = 512;

// Activations are quantised in blocks of this many values.
inline constexpr int64_t kActivationBlock = 32;

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_LIMITS_H_
