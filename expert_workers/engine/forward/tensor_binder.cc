#include "expert_workers/engine/forward/tensor_binder.h"

namespace conclave::engine {

void TensorBinder::Add(const families::TensorRule& rule,
                       kernels::PackedMatrix* slot) {
  const std::string name = prefix_ + std::string(rule.gguf);
  if (!Found(rule, name)) return;
  absl::StatusOr<kernels::PackedMatrix> matrix = lease_.Matrix(name);
  if (!matrix.ok()) return Fail(name, matrix.status());
  Check(rule, name, matrix->rows, matrix->cols);
  *slot = *matrix;
}

void TensorBinder::Add(const families::TensorRule& rule, const float** slot) {
  const std::string name = prefix_ + std::string(rule.gguf);
  if (!Found(rule, name)) return;
  absl::StatusOr<std::span<const float>> vector = lease_.Vector(name);
  if (!vector.ok()) return Fail(name, vector.status());
  Check(rule, name, 1, static_cast<int64_t>(vector->size()));
  *slot = vector->data();
}

bool TensorBinder::Found(const families::TensorRule& rule,
                         const std::string& name) {
  if (lease_.Has(name)) return true;
  if (!families::MayBeAbsent(rule, lease_.manifest().spec.hyperparameters)) {
    Fail(name, InvalidArgument("it is missing"));
  }
  return false;
}

void TensorBinder::Check(const families::TensorRule& rule,
                         const std::string& name, int64_t rows, int64_t cols) {
  const weights::ModelHyperparameters& model =
      lease_.manifest().spec.hyperparameters;
  if (families::Fits(rule.rows, model, rows) &&
      families::Fits(rule.cols, model, cols)) {
    return;
  }
  Fail(name, InvalidArgument("it is {} by {}; the architecture wants {} by {}",
                             rows, cols, families::Extent(rule.rows, model),
                             families::Extent(rule.cols, model)));
}

void TensorBinder::Fail(const std::string& name, const absl::Status& status) {
  if (!status_.ok()) return;
  status_ = InvalidArgument("tensor {}: {}", name, Message(status));
}

}  // namespace conclave::engine
