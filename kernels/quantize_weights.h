// Floating-point weights into 8 bits. Lossy, so never done to what is stored:
// a fast path makes a copy for itself.
#ifndef CONCLAVE_KERNELS_QUANTIZE_WEIGHTS_H_
#define CONCLAVE_KERNELS_QUANTIZE_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "kernels/packed_matrix.h"

namespace conclave::kernels {

// One row in Q8_0: for each 32 values an fp16 scale, largest magnitude / 127,
// and 32 codes, value / scale rounded to nearest, halves away from zero.
//   values  [cols], cols a multiple of 32
//   out     RowBytes(kQ8_0, cols) bytes
// False when a value is not finite or a scale is beyond fp16; `out` is then
// unspecified.
bool QuantizeRowToQ8_0(std::span<const float> values, std::byte* out);

// A packed matrix with its memory.
class OwnedMatrix {
 public:
  // `matrix`, of any type, in Q8_0. Null when its columns are no multiple of
  // 32 or a value has no such form.
  static std::unique_ptr<const OwnedMatrix> InQ8_0(const PackedMatrix& matrix);
  // Bytes that InQ8_0 takes for a matrix of this shape.
  static int64_t BytesInQ8_0(int64_t rows, int64_t cols);

  OwnedMatrix(const OwnedMatrix&) = delete;
  OwnedMatrix& operator=(const OwnedMatrix&) = delete;

  const PackedMatrix& view() const { return view_; }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  OwnedMatrix() = default;

  std::unique_ptr<std::byte[], Free> data_;
  PanelRun run_;
  PackedMatrix view_;
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_QUANTIZE_WEIGHTS_H_
