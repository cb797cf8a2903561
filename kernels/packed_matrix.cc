#include "kernels/packed_matrix.h"

#include <cstring>

#include "base/check.h"
#include "kernels/block_codes.h"
#include "kernels/block_record.h"
#include "kernels/packed_layout.h"

namespace conclave::kernels {
bool CanPack(QuantType type, int64_t cols) {
  return cols > 0 && cols % TraitsOf(type).block_values == 0;
}

int64_t PanelBytes(QuantType type, int64_t cols) {
  CHECK(CanPack(type, cols), "{} columns of {}", cols, TraitsOf(type).name);
  const QuantTraits& traits = TraitsOf(type);
  int64_t bytes = 0;
  if (IsPlain(type)) {
    bytes = kPanelRows * cols * traits.block_bytes;
  } else {
    bytes = cols / traits.block_values *
            RecordBytes(ShapeOf(type), traits.block_values);
  }
  return (bytes + 63) / 64 * 64;
}

void PackPanel(QuantType type, const std::byte* source, int64_t num_rows,
               int64_t cols, std::byte* panel) {
  CHECK(num_rows >= 1 && num_rows <= kPanelRows, "{} rows", num_rows);
  const QuantTraits& traits = TraitsOf(type);
  const int64_t row_bytes = RowBytes(type, cols);
  std::memset(panel, 0, static_cast<size_t>(PanelBytes(type, cols)));
  if (IsPlain(type)) {
    const int64_t size = traits.block_bytes;
    for (int64_t r = 0; r < num_rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        std::memcpy(panel + (c * kPanelRows + r) * size,
                    source + r * row_bytes + c * size,
                    static_cast<size_t>(size));
      }
    }
    return;
  }
  const BlockShape shape = ShapeOf(type);
  const int64_t record_bytes = RecordBytes(shape, traits.block_values);
  BlockCodes block;
  for (int64_t r = 0; r < num_rows; ++r) {
    const RecordRow row(shape, traits.block_values, r);
    const std::byte* from = source + r * row_bytes;
    uint8_t* record = reinterpret_cast<uint8_t*>(panel);
    for (int64_t c = 0; c < cols; c += traits.block_values) {
      SplitBlock(type, from, block);
      row.Write(block, record);
      from += traits.block_bytes;
      record += record_bytes;
    }
  }
}

const std::byte* PackedMatrix::Panel(int64_t panel) const {
  for (const PanelRun& run : runs) {
    const int64_t offset = panel - run.first_panel;
    if (offset >= 0 && offset < run.num_panels) {
      return run.data + offset * PanelBytes(type, cols);
    }
  }
  CHECK(false, "panel {} of {} is in no run", panel, num_panels());
}

namespace {

// One lane of a plain panel, type by type: the element's conversion is then in
// the loop, and an encoder's copies are made in a fifth of the time.
template <typename Element, typename ToFloat>
void UnpackLane(const std::byte* panel, int64_t lane, int64_t cols,
                ToFloat to_float, float* out) {
  for (int64_t c = 0; c < cols; ++c) {
    Element element;
    std::memcpy(
        &element,
        panel + (c * kPanelRows + lane) * static_cast<int64_t>(sizeof(Element)),
        sizeof(Element));
    out[c] = to_float(element);
  }
}

}  // namespace

void UnpackRow(const PackedMatrix& matrix, int64_t row, float* out) {
  CHECK(row >= 0 && row < matrix.rows, "row {} of {}", row, matrix.rows);
  const QuantTraits& traits = TraitsOf(matrix.type);
  const std::byte* panel = matrix.Panel(row / kPanelRows);
  const int64_t lane = row % kPanelRows;
  switch (matrix.type) {
    case QuantType::kF32:
      return UnpackLane<float>(
          panel, lane, matrix.cols, [](float v) { return v; }, out);
    case QuantType::kF16:
      return UnpackLane<uint16_t>(panel, lane, matrix.cols, HalfToFloat, out);
    case QuantType::kBF16:
      return UnpackLane<uint16_t>(panel, lane, matrix.cols, Bf16ToFloat, out);
    default:
      break;
  }
  const BlockShape shape = ShapeOf(matrix.type);
  const int64_t record_bytes = RecordBytes(shape, traits.block_values);
  const RecordRow reader(shape, traits.block_values, lane);
  const uint8_t* record = reinterpret_cast<const uint8_t*>(panel);
  BlockCodes block;
  for (int64_t c = 0; c < matrix.cols; c += traits.block_values) {
    reader.Read(record, block);
    ComputeBlock(matrix.type, block, out + c);
    record += record_bytes;
  }
}

}  // namespace conclave::kernels
