#include "expert_workers/engine/families/tensors.h"

namespace conclave::engine {

kernels::PackedMatrix Tensors::Matrix(const std::string& name, int64_t rows,
                                      int64_t cols) {
  absl::StatusOr<kernels::PackedMatrix> matrix = lease_.Matrix(name);
  if (!matrix.ok()) {
    Fail(name, matrix.status());
    return {};
  }
  if (matrix->rows != rows || matrix->cols != cols) {
    Fail(name, InvalidArgument("it is [{}, {}]; the architecture wants [{}, {}]",
                               matrix->rows, matrix->cols, rows, cols));
  }
  return *matrix;
}

const float* Tensors::Vector(const std::string& name, int64_t size) {
  absl::StatusOr<std::span<const float>> vector = lease_.Vector(name);
  if (!vector.ok()) {
    Fail(name, vector.status());
    return nullptr;
  }
  if (static_cast<int64_t>(vector->size()) != size) {
    Fail(name, InvalidArgument("it has {} values; the architecture wants {}",
                               vector->size(), size));
  }
  return vector->data();
}

void Tensors::Fail(const std::string& name, const absl::Status& status) {
  if (!status_.ok()) return;
  status_ = InvalidArgument("tensor {}: {}", name, Message(status));
}

}  // namespace conclave::engine
