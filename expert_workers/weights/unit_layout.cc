#include "expert_workers/weights/unit_layout.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "base/units.h"
#include "kernels/packed_matrix.h"

namespace conclave::weights {
namespace {

constexpr int64_t kAlign = 64;

int64_t AlignUp(int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

// Appends to a unit's records, opening a new one when the next piece does not
// fit.
class RecordPlanner {
 public:
  explicit RecordPlanner(UnitInfo* unit) : unit_(unit) {}

  // Room for at least `bytes` in the current record, or a fresh one.
  int64_t RoomFor(int64_t bytes) {
    if (unit_->record_bytes.empty() ||
        kMaxRecordBytes - unit_->record_bytes.back() < bytes) {
      unit_->record_bytes.push_back(0);
    }
    return kMaxRecordBytes - unit_->record_bytes.back();
  }

  TensorRun Place(int64_t bytes, int64_t first_panel, int64_t num_panels) {
    int64_t& filled = unit_->record_bytes.back();
    TensorRun run;
    run.record = static_cast<uint32_t>(unit_->record_bytes.size() - 1);
    run.offset = filled;
    run.first_panel = first_panel;
    run.num_panels = num_panels;
    filled = AlignUp(filled + bytes);
    return run;
  }

 private:
  UnitInfo* const unit_;
};

absl::Status TooLarge(const SourceTensor& tensor, int64_t bytes) {
  return Unimplemented(
      "tensor {} is {} by {}: {} bytes must lie together, and a record holds "
      "{}",
      tensor.name, tensor.rows, tensor.cols, bytes, kMaxRecordBytes);
}

absl::Status PlanMatrix(const SourceTensor& tensor, RecordPlanner* planner,
                        TensorInfo* info) {
  if (!kernels::CanPack(tensor.type, tensor.cols)) {
    return Unimplemented("tensor {}: rows of {} values of {} cannot be packed",
                         tensor.name, tensor.cols,
                         kernels::TraitsOf(tensor.type).name);
  }
  const int64_t panel_bytes = kernels::PanelBytes(tensor.type, tensor.cols);
  if (panel_bytes > kMaxRecordBytes) return TooLarge(tensor, panel_bytes);
  const int64_t num_panels = kernels::NumPanels(tensor.rows);
  for (int64_t panel = 0; panel < num_panels;) {
    const int64_t count = std::min(planner->RoomFor(panel_bytes) / panel_bytes,
                                   num_panels - panel);
    info->runs.push_back(planner->Place(count * panel_bytes, panel, count));
    panel += count;
  }
  return absl::OkStatus();
}

absl::Status PlanVector(const SourceTensor& tensor, RecordPlanner* planner,
                        TensorInfo* info) {
  using kernels::QuantType;
  if (tensor.type != QuantType::kF32 && tensor.type != QuantType::kF16 &&
      tensor.type != QuantType::kBF16) {
    return Unimplemented("vector {} has type {}; F32, F16 or BF16 is supported",
                         tensor.name, kernels::TraitsOf(tensor.type).name);
  }
  const int64_t bytes = tensor.cols * static_cast<int64_t>(sizeof(float));
  if (bytes > kMaxRecordBytes) return TooLarge(tensor, bytes);
  planner->RoomFor(bytes);
  info->runs.push_back(planner->Place(bytes, 0, 0));
  info->type = QuantType::kF32;
  return absl::OkStatus();
}

absl::Status FillVector(const ModelSource& source, const SourceTensor& tensor,
                        std::byte* out) {
  std::vector<std::byte> raw(
      static_cast<size_t>(kernels::RowBytes(tensor.type, tensor.cols)));
  RETURN_IF_ERROR(ReadRows(source, tensor, 0, 1, raw));
  // `out` is 64-byte aligned.
  float* values = reinterpret_cast<float*>(out);
  kernels::DequantizeRow(tensor.type, raw.data(), tensor.cols, values);
  if (tensor.interleaved_head_dim > 0) {
    const std::vector<float> from(values, values + tensor.cols);
    for (int64_t i = 0; i < tensor.cols; ++i) {
      values[i] = from[static_cast<size_t>(SourceRow(tensor, i))];
    }
  }
  if (tensor.plus != 0.0f) {
    for (int64_t i = 0; i < tensor.cols; ++i) values[i] += tensor.plus;
  }
  return absl::OkStatus();
}

absl::Status FillPanels(const ModelSource& source, const SourceTensor& tensor,
                        const TensorRun& run, std::byte* out) {
  const int64_t panel_bytes = kernels::PanelBytes(tensor.type, tensor.cols);
  const int64_t row_bytes = kernels::RowBytes(tensor.type, tensor.cols);
  const int64_t panel_rows = kernels::kPanelRows;
  // Some 256 KiB per read: few calls, and the rows are still in the second
  // level cache when they are packed.
  const int64_t step =
      std::max<int64_t>(1, 256 * kKiB / (row_bytes * panel_rows));
  std::vector<std::byte> rows;
  const int64_t end = run.first_panel + run.num_panels;
  for (int64_t panel = run.first_panel; panel < end; panel += step) {
    const int64_t first = panel * panel_rows;
    const int64_t last =
        std::min({tensor.rows, (panel + step) * panel_rows, end * panel_rows});
    rows.resize(static_cast<size_t>((last - first) * row_bytes));
    RETURN_IF_ERROR(ReadRows(source, tensor, first, last - first, rows));
    for (int64_t row = first; row < last; row += panel_rows) {
      kernels::PackPanel(tensor.type, rows.data() + (row - first) * row_bytes,
                         std::min(panel_rows, last - row), tensor.cols, out);
      out += panel_bytes;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UnitInfo> PlanUnit(const UnitSource& unit) {
  UnitInfo info;
  info.name = unit.name;
  RecordPlanner planner(&info);
  for (const SourceTensor& tensor : unit.tensors) {
    TensorInfo placed;
    placed.name = tensor.name;
    placed.type = tensor.type;
    placed.rows = tensor.rows;
    placed.cols = tensor.cols;
    placed.is_vector = tensor.is_vector;
    RETURN_IF_ERROR(tensor.is_vector ? PlanVector(tensor, &planner, &placed)
                                     : PlanMatrix(tensor, &planner, &placed));
    info.tensors.push_back(std::move(placed));
  }
  for (const int64_t bytes : info.record_bytes) info.bytes += bytes;
  return info;
}

absl::Status FillRecord(const ModelSource& source, const UnitSource& unit,
                        const UnitInfo& plan, size_t record,
                        std::span<std::byte> out) {
  CHECK(out.size() == static_cast<size_t>(plan.record_bytes[record]));
  // Padding is part of the digest.
  std::memset(out.data(), 0, out.size());
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    for (const TensorRun& run : plan.tensors[i].runs) {
      if (run.record != record) continue;
      const SourceTensor& tensor = unit.tensors[i];
      std::byte* at = out.data() + run.offset;
      RETURN_IF_ERROR(tensor.is_vector ? FillVector(source, tensor, at)
                                       : FillPanels(source, tensor, run, at));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckPlan(const UnitInfo& unit) {
  int64_t bytes = 0;
  for (const int64_t record : unit.record_bytes) {
    if (record <= 0 || record > kMaxRecordBytes || record % kAlign != 0) {
      return DataLoss("unit {}: a record of {} bytes", unit.name, record);
    }
    bytes += record;
  }
  if (bytes != unit.bytes) {
    return DataLoss("unit {}: {} bytes, but records hold {}", unit.name,
                    unit.bytes, bytes);
  }
  for (const TensorInfo& tensor : unit.tensors) {
    const auto bad = [&] {
      return DataLoss("unit {}: tensor {} is misplaced", unit.name,
                      tensor.name);
    };
    if (tensor.rows < 1 || tensor.cols < 1 || tensor.cols > (1 << 24) ||
        (tensor.is_vector && (tensor.rows != 1 || tensor.runs.size() != 1)) ||
        (!tensor.is_vector && !kernels::CanPack(tensor.type, tensor.cols))) {
      return bad();
    }
    int64_t next_panel = 0;
    for (const TensorRun& run : tensor.runs) {
      if (run.record >= unit.record_bytes.size() || run.offset < 0 ||
          run.offset % kAlign != 0 || run.first_panel != next_panel ||
          run.num_panels < 0 || run.num_panels > kMaxRecordBytes) {
        return bad();
      }
      const int64_t room = unit.record_bytes[run.record] - run.offset;
      if (RunBytes(tensor, run) > room) return bad();
      next_panel += run.num_panels;
    }
    const int64_t panels =
        tensor.is_vector ? 0 : kernels::NumPanels(tensor.rows);
    if (next_panel != panels) return bad();
  }
  return absl::OkStatus();
}

}  // namespace conclave::weights
