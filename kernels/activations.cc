#include "base/check.h"
#include "kernels/ops.h"

namespace conclave::kernels {

void Activations::Resize(int64_t m, int64_t k) {
  CHECK(m >= 0 && k >= 0, "m {}, k {}", m, k);
  m_ = m;
  k_ = k;
  stride_ = (k + 31) / 32 * 32;
  const auto values = static_cast<size_t>(m_ * stride_);
  if (f32_.size() < values) {
    f32_.resize(values);
    q_.resize(values);
    scale_.resize(values / 32);
    sum_.resize(values / 32);
    scaled_sum_.resize(values / 32);
    sum16_.resize(values / 16);
  }
}

}  // namespace conclave::kernels
