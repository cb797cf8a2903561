#include "kernels/gate/domain_projection.h"

#include <algorithm>
#include <cmath>

#include "kernels/gate/fixed_sum.h"
#include "kernels/gate/score.h"

namespace conclave::kernels {

absl::StatusOr<DomainProjection> DomainProjection::Create(
    std::span<const float> w1, std::span<const float> w2, int64_t domain_size,
    int64_t hidden_size) {
  if (domain_size < 1 || hidden_size < 1) {
    return InvalidArgument("domain_size={}, hidden_size={}: above 0",
                           domain_size, hidden_size);
  }
  const auto size = static_cast<int64_t>(w1.size());
  const int64_t width = size / (2 * domain_size);
  if (width < 1 || size != 2 * width * domain_size ||
      static_cast<int64_t>(w2.size()) != hidden_size * width) {
    return InvalidArgument(
        "w1 has {} values and w2 {}; [2 x width, {}] and [{}, width] are "
        "needed",
        w1.size(), w2.size(), domain_size, hidden_size);
  }
  DomainProjection projection;
  projection.domain_size_ = domain_size;
  projection.width_ = width;
  projection.hidden_size_ = hidden_size;
  projection.w1_.assign(w1.begin(), w1.end());
  projection.w2_.assign(w2.begin(), w2.end());
  return projection;
}

absl::Status DomainProjection::Append(std::span<const float> domain) {
  if (static_cast<int64_t>(domain.size()) != domain_size_) {
    return InvalidArgument("a domain of {} values, not {}", domain.size(),
                           domain_size_);
  }
  if (!std::ranges::all_of(domain, [](float v) { return std::isfinite(v); })) {
    return InvalidArgument("a domain's embedding is not finite");
  }
  const auto product = [&](int64_t row) {
    return FixedDot(w1_.data() + row * domain_size_, domain.data(),
                    domain_size_);
  };
  std::vector<float> inner(static_cast<size_t>(width_));
  for (int64_t i = 0; i < width_; ++i) {
    const double a = product(i);
    inner[static_cast<size_t>(i)] =
        static_cast<float>(a * Sigmoid(a) * product(width_ + i));
  }
  for (int64_t r = 0; r < hidden_size_; ++r) {
    rows_.push_back(static_cast<float>(
        FixedDot(w2_.data() + r * width_, inner.data(), width_)));
  }
  return absl::OkStatus();
}

}  // namespace conclave::kernels
