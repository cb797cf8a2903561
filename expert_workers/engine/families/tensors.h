// Finds a family's tensors in a lease and checks their shapes. The first
// error sticks, so that a family lists what it needs without a line of error
// handling between.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_TENSORS_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_TENSORS_H_

#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"
#include "expert_workers/weights/ram_tier.h"
#include "kernels/packed_matrix.h"

namespace conclave::engine {

class Tensors {
 public:
  explicit Tensors(const weights::ModelLease& lease) : lease_(lease) {}

  kernels::PackedMatrix Matrix(const std::string& name, int64_t rows,
                               int64_t cols);
  const float* Vector(const std::string& name, int64_t size);
  bool Has(const std::string& name) const { return lease_.Has(name); }

  // OK when everything asked for was there.
  const absl::Status& status() const { return status_; }

 private:
  void Fail(const std::string& name, const absl::Status& status);

  const weights::ModelLease& lease_;
  absl::Status status_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FAMILIES_TENSORS_H_
