// A quantised block taken apart: the integer code of each value, and a header
// of scales. Both forms of a weight (GGUF's rows and our panels) are read
// through this one, so that they give the same values by construction.
//
//   header: num_halves little-endian 16-bit fields (f16), then num_bytes bytes
//     Q4_0, Q5_0, Q8_0   d
//     Q4_1, Q5_1         d, m
//     Q4_K, Q5_K         d, dmin, then 12 bytes of packed 6-bit scales
//     Q6_K               d, then 16 signed scales
//   codes: block_values of them: 0..15, 0..31 or 0..63; Q8_0's are int8 bits
#ifndef CONCLAVE_KERNELS_BLOCK_CODES_H_
#define CONCLAVE_KERNELS_BLOCK_CODES_H_

#include <cstddef>
#include <cstdint>

#include "kernels/quant_type.h"

namespace conclave::kernels {

inline constexpr int64_t kMaxBlockValues = 256;

// What a panel keeps of a type; see packed_layout.h for where.
struct BlockShape {
  int num_halves = 0;  // f16 fields per block
  int num_bytes = 0;   // scale bytes per block
  int low_bits = 0;    // bits of a code in the low plane: 4 or 8
  int high_bits = 0;   // bits of a code in the high plane: 0, 1 or 2
};

BlockShape ShapeOf(QuantType type);

struct BlockCodes {
  uint16_t halves[2] = {};
  uint8_t bytes[16] = {};
  uint8_t codes[kMaxBlockValues] = {};
};

// `type` is a quantised one.
void SplitBlock(QuantType type, const std::byte* source, BlockCodes& block);

// The values that the codes stand for.  out [block_values]
void ComputeBlock(QuantType type, const BlockCodes& block, float* out);

// Sub-block j (0..7) of the K-types' twelve packed bytes.
struct ScaleAndMin {
  uint8_t scale;
  uint8_t min;
};
ScaleAndMin UnpackScaleAndMin(const uint8_t* packed, int j);

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_BLOCK_CODES_H_
