#include "kernels/quantize_weights.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "base/check.h"
#include "kernels/quant_type.h"

namespace conclave::kernels {

bool QuantizeRowToQ8_0(std::span<const float> values, std::byte* out) {
  CHECK(values.size() % 32 == 0, "{} columns", values.size());
  for (size_t begin = 0; begin < values.size(); begin += 32) {
    float largest = 0;
    for (size_t i = begin; i < begin + 32; ++i) {
      if (!std::isfinite(values[i])) return false;
      largest = std::max(largest, std::fabs(values[i]));
    }
    const uint16_t half = FloatToHalf(largest / 127);
    const float scale = HalfToFloat(half);
    if (!std::isfinite(scale)) return false;
    std::memcpy(out, &half, sizeof(half));
    out += sizeof(half);
    for (size_t i = begin; i < begin + 32; ++i) {
      // The scale is rounded too: the largest may come out at 127.06.
      const float code = scale == 0 ? 0 : std::round(values[i] / scale);
      *out++ = static_cast<std::byte>(
          static_cast<int8_t>(std::clamp(code, -127.0f, 127.0f)));
    }
  }
  return true;
}

void OwnedMatrix::Free::operator()(std::byte* data) const { std::free(data); }

int64_t OwnedMatrix::BytesInQ8_0(int64_t rows, int64_t cols) {
  return NumPanels(rows) * PanelBytes(QuantType::kQ8_0, cols);
}

std::unique_ptr<const OwnedMatrix> OwnedMatrix::InQ8_0(
    const PackedMatrix& matrix) {
  const int64_t cols = matrix.cols;
  if (!CanPack(QuantType::kQ8_0, cols)) return nullptr;
  const int64_t panels = matrix.num_panels();
  const int64_t panel_bytes = PanelBytes(QuantType::kQ8_0, cols);
  std::unique_ptr<OwnedMatrix> copy(new OwnedMatrix());
  copy->data_.reset(static_cast<std::byte*>(
      std::aligned_alloc(64, static_cast<size_t>(panels * panel_bytes))));
  std::byte* const data = copy->data_.get();
  if (data == nullptr) throw std::bad_alloc();
  const int64_t row_bytes = RowBytes(QuantType::kQ8_0, cols);
  std::vector<float> values(static_cast<size_t>(cols));
  std::vector<std::byte> rows(static_cast<size_t>(kPanelRows * row_bytes));
  for (int64_t p = 0; p < panels; ++p) {
    const int64_t first = p * kPanelRows;
    const int64_t count = std::min(kPanelRows, matrix.rows - first);
    for (int64_t r = 0; r < count; ++r) {
      UnpackRow(matrix, first + r, values.data());
      if (!QuantizeRowToQ8_0(values, rows.data() + r * row_bytes)) {
        return nullptr;
      }
    }
    PackPanel(QuantType::kQ8_0, rows.data(), count, cols,
              data + p * panel_bytes);
  }
  copy->run_ = {data, 0, panels};
  copy->view_ = {QuantType::kQ8_0, matrix.rows, cols, {&copy->run_, 1}};
  return copy;
}

}  // namespace conclave::kernels
