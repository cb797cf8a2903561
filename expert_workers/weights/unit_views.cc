#include "expert_workers/weights/unit_views.h"

namespace conclave::weights {

void UnitViews::Map(const UnitInfo& unit, const std::byte* memory) {
  std::vector<int64_t> starts;  // of the records
  int64_t start = 0;
  for (const int64_t bytes : unit.record_bytes) {
    starts.push_back(start);
    start += bytes;
  }
  for (const TensorInfo& tensor : unit.tensors) {
    View& view = views_[tensor.name];
    view.tensor = &tensor;
    view.runs.clear();
    if (memory == nullptr) continue;
    for (const TensorRun& run : tensor.runs) {
      const std::byte* data = memory + starts[run.record] + run.offset;
      // Records lie end to end, so most runs continue the one before.
      if (!view.runs.empty() &&
          view.runs.back().data +
                  view.runs.back().num_panels *
                      kernels::PanelBytes(tensor.type, tensor.cols) ==
              data) {
        view.runs.back().num_panels += run.num_panels;
        continue;
      }
      view.runs.push_back({data, run.first_panel, run.num_panels});
    }
  }
}

absl::StatusOr<kernels::PackedMatrix> UnitViews::Matrix(
    std::string_view name) const {
  ASSIGN_OR_RETURN(const View* view, Find(name));
  if (view->tensor->is_vector) return NotFound("tensor {} is a vector", name);
  kernels::PackedMatrix matrix;
  matrix.type = view->tensor->type;
  matrix.rows = view->tensor->rows;
  matrix.cols = view->tensor->cols;
  matrix.runs = view->runs;
  return matrix;
}

absl::StatusOr<std::span<const float>> UnitViews::Vector(
    std::string_view name) const {
  ASSIGN_OR_RETURN(const View* view, Find(name));
  if (!view->tensor->is_vector) return NotFound("tensor {} is a matrix", name);
  if (view->runs.empty()) return NotFound("tensor {} is not in memory", name);
  return std::span<const float>(
      reinterpret_cast<const float*>(view->runs.front().data),
      static_cast<size_t>(view->tensor->cols));
}

absl::StatusOr<const UnitViews::View*> UnitViews::Find(
    std::string_view name) const {
  const auto it = views_.find(name);
  if (it == views_.end()) return NotFound("the model has no tensor {}", name);
  return &it->second;
}

}  // namespace conclave::weights
