// Nexus: an expert's row of the gate is computed from a description of its
// domain, so that an expert is added without touching the others' rows.
//
//   e_i = W2 (silu(a) * b),  [a; b] = W1 d_i
//
// d_i [m] is the mean embedding of the domain's data, by an encoder that is
// the same for all. Each e_i is computed once, when its expert is added.
#ifndef CONCLAVE_KERNELS_GATE_DOMAIN_PROJECTION_H_
#define CONCLAVE_KERNELS_GATE_DOMAIN_PROJECTION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace conclave::kernels {

class DomainProjection {
 public:
  //   w1 [2 * width, domain_size], w2 [hidden_size, width]; copied
  //   INVALID_ARGUMENT  sizes that do not fit
  static absl::StatusOr<DomainProjection> Create(std::span<const float> w1,
                                                 std::span<const float> w2,
                                                 int64_t domain_size,
                                                 int64_t hidden_size);

  // Adds the next expert; rows of those before stay as they are, bit for bit.
  //   INVALID_ARGUMENT  a wrong length, or not finite
  absl::Status Append(std::span<const float> domain);

  // [experts, hidden_size]: ScorerParams::rows. Append moves it.
  std::span<const float> rows() const { return rows_; }

 private:
  DomainProjection() = default;

  int64_t domain_size_ = 0;
  int64_t width_ = 0;
  int64_t hidden_size_ = 0;
  std::vector<float> w1_, w2_, rows_;
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_DOMAIN_PROJECTION_H_
