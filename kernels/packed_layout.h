// Where things lie in a panel. Lane r (0..15) is output feature 16p + r.
//
// Plain types (F32, F16, BF16): element [c][r], column after column.
//
// Quantised types: one record per block of block_values columns,
//
//   halves   [num_halves][16] f16    d, and m or dmin
//   bytes    [num_bytes][16]         the K-types' scales: byte i of row r
//   then for each 32 columns of the block:
//     low    4-bit codes: [4][64]    byte j of chunk i holds the codes of
//                                    K-quads 2i (low nibble) and 2i+1 (high)
//            8-bit codes: [8][64]    byte j of chunk i is K-quad i's
//     high   1 bit:  [64]            bit q of byte j: K-quad q's fifth bit
//            2 bits: [2][64]         bits 2(q%4).. of byte j of chunk q/4
//
// where byte j of a K-quad q is row j / 4, column 4q + j % 4: the four
// columns that one 32-bit lane multiplies are adjacent.
//
//          record bytes   bits per weight
//   Q4_0   32+256         4.5
//   Q4_1   64+256         5
//   Q5_0   32+320         5.5
//   Q5_1   64+320         6
//   Q8_0   32+512         8.5
//   Q4_K   256+8*256      4.5
//   Q5_K   256+8*320      5.5
//   Q6_K   288+8*384      6.5625
// each exactly the source's bits: a panel is a permutation of them.
#ifndef CONCLAVE_KERNELS_PACKED_LAYOUT_H_
#define CONCLAVE_KERNELS_PACKED_LAYOUT_H_

#include <cstdint>

#include "kernels/block_codes.h"
#include "kernels/packed_matrix.h"
#include "kernels/quant_type.h"

namespace conclave::kernels {

constexpr int64_t HeaderBytes(const BlockShape& shape) {
  return kPanelRows * (2 * shape.num_halves + shape.num_bytes);
}

// Bytes of 32 columns of codes: their low and high planes.
constexpr int64_t LowBytes(const BlockShape& shape) {
  return 64 * shape.low_bits;
}
constexpr int64_t CodeBytes(const BlockShape& shape) {
  return 64 * (shape.low_bits + shape.high_bits);
}

constexpr int64_t RecordBytes(const BlockShape& shape, int64_t block_values) {
  return HeaderBytes(shape) + block_values / 32 * CodeBytes(shape);
}

inline bool IsPlain(QuantType type) {
  return type == QuantType::kF32 || type == QuantType::kF16 ||
         type == QuantType::kBF16;
}

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_PACKED_LAYOUT_H_
