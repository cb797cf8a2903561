// Weights as the kernels read them: panels of 16 output features, made once at
// import, stored, and used where they were loaded.
//
// A weight matrix W [rows, cols] computes y[r] = sum_c W[r, c] x[c]; rows are
// output features. Panel p holds rows 16p .. 16p+15 over all columns, with
// their scales; lane = output feature, so a dot product needs no horizontal
// sum, and each output's sum over c runs in one fixed order however many
// tokens are multiplied together and however threads share the panels.
// A last panel that is not full is padded with zero rows.
//
// Every panel is PanelBytes(type, cols) bytes, a multiple of 64, and starts
// 64-byte aligned. Both AVX2 and AVX-512 read this one layout.
#ifndef CONCLAVE_KERNELS_PACKED_MATRIX_H_
#define CONCLAVE_KERNELS_PACKED_MATRIX_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/quant_type.h"

namespace conclave::kernels {

inline constexpr int64_t kPanelRows = 16;

inline int64_t NumPanels(int64_t rows) {
  return (rows + kPanelRows - 1) / kPanelRows;
}

// Names the layout below; part of a stored unit's identity, so that a change
// of layout is a different unit.
inline constexpr uint32_t kPackedLayoutVersion = 1;

// Whether `type` with `cols` columns can be packed: cols is positive and a
// multiple of the type's block_values.
bool CanPack(QuantType type, int64_t cols);

// Bytes of one panel: a multiple of 64.
int64_t PanelBytes(QuantType type, int64_t cols);

// Writes one panel.
//   source  [num_rows, cols] of `type`, rows contiguous; 1 <= num_rows <= 16
//   panel   PanelBytes(type, cols) bytes, 64-byte aligned
// Lossless: UnpackRow gives back DequantizeRow's values bit for bit.
void PackPanel(QuantType type, const std::byte* source, int64_t num_rows,
               int64_t cols, std::byte* panel);

// Consecutive panels that lie together in memory. A matrix larger than one
// stored record is several runs; a run never splits a panel.
struct PanelRun {
  const std::byte* data = nullptr;  // 64-byte aligned
  int64_t first_panel = 0;
  int64_t num_panels = 0;
};

// A view: owns nothing. Runs are in ascending order and cover every panel.
struct PackedMatrix {
  QuantType type = QuantType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  std::span<const PanelRun> runs;

  int64_t num_panels() const { return NumPanels(rows); }
  // O(number of runs).
  const std::byte* Panel(int64_t panel) const;
};

// The exact fp32 values of one row.  out [cols]
void UnpackRow(const PackedMatrix& matrix, int64_t row, float* out);

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_PACKED_MATRIX_H_
