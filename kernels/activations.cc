#include <algorithm>
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

void Activations::CopyRow(int64_t i, const Activations& from, int64_t j,
                          Copied what) {
  if (what == Copied::kBothForms) {
    std::copy_n(from.row(j), stride_, row(i));
  }
  std::copy_n(from.q(j), stride_, q(i));
  std::copy_n(from.scale(j), stride_ / 32, scale(i));
  std::copy_n(from.sum(j), stride_ / 32, sum(i));
  std::copy_n(from.scaled_sum(j), stride_ / 32, scaled_sum(i));
  std::copy_n(from.sum16(j), stride_ / 16, sum16(i));
}

}  // namespace conclave::kernels
