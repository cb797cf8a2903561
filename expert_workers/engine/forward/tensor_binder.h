// Fills a family's slots from a lease, and checks shapes again: what was
// imported by another build may differ from what this one computes.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_TENSOR_BINDER_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_TENSOR_BINDER_H_

#include <string>

#include "base/status.h"
#include "expert_workers/families/family.h"
#include "expert_workers/weights/ram_tier.h"
#include "kernels/packed_matrix.h"

namespace conclave::engine {

class TensorBinder final : public families::TensorList {
 public:
  // `prefix`: "blk.3." for a layer's tensors. `lease` outlives the slots.
  TensorBinder(const weights::ModelLease& lease, std::string prefix)
      : lease_(lease), prefix_(std::move(prefix)) {}

  void Add(const families::TensorRule& rule,
           kernels::PackedMatrix* slot) override;
  void Add(const families::TensorRule& rule, const float** slot) override;

  // The first error: a tensor is missing or has another shape.
  const absl::Status& status() const { return status_; }

 private:
  // Whether the tensor is there; an error when it has to be.
  bool Found(const families::TensorRule& rule, const std::string& name);
  void Check(const families::TensorRule& rule, const std::string& name,
             int64_t rows, int64_t cols);
  void Fail(const std::string& name, const absl::Status& status);

  const weights::ModelLease& lease_;
  const std::string prefix_;
  absl::Status status_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_FORWARD_TENSOR_BINDER_H_
