// The number formats that weights come in. Numbers and names are GGUF's, so
// that a file's type field converts by a checked cast.
//
// A quantised row is a sequence of blocks: block_values consecutive values in
// block_bytes bytes, little-endian, laid out as GGUF v3 defines them.
#ifndef CONCLAVE_KERNELS_QUANT_TYPE_H_
#define CONCLAVE_KERNELS_QUANT_TYPE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace conclave::kernels {

enum class QuantType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

struct QuantTraits {
  QuantType type;
  std::string_view name;  // "Q4_K"
  int64_t block_values;   // 1 for plain types
  int64_t block_bytes;
};

// Nothing for a number that is not in the enum.
std::optional<QuantTraits> FindQuantTraits(uint32_t gguf_type);
const QuantTraits& TraitsOf(QuantType type);

// Bytes of one row of `cols` values. `cols` must be a multiple of
// block_values.
int64_t RowBytes(QuantType type, int64_t cols);

// The exact value of each element in fp32: the definition of the format.
//   source [cols] of `type`, out [cols]
void DequantizeRow(QuantType type, const std::byte* source, int64_t cols,
                   float* out);

float HalfToFloat(uint16_t half);
uint16_t FloatToHalf(float value);  // round to nearest even
float Bf16ToFloat(uint16_t bf16);
uint16_t FloatToBf16(float value);  // round to nearest even

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_QUANT_TYPE_H_
