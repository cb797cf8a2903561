#include "kernels/quant_type.h"

#include <cstring>

#include "base/check.h"
#include "kernels/block_codes.h"

namespace conclave::kernels {
namespace {

constexpr QuantTraits kTraits[] = {
    {QuantType::kF32, "F32", 1, 4},       {QuantType::kF16, "F16", 1, 2},
    {QuantType::kQ4_0, "Q4_0", 32, 18},   {QuantType::kQ4_1, "Q4_1", 32, 20},
    {QuantType::kQ5_0, "Q5_0", 32, 22},   {QuantType::kQ5_1, "Q5_1", 32, 24},
    {QuantType::kQ8_0, "Q8_0", 32, 34},   {QuantType::kQ4_K, "Q4_K", 256, 144},
    {QuantType::kQ5_K, "Q5_K", 256, 176}, {QuantType::kQ6_K, "Q6_K", 256, 210},
    {QuantType::kBF16, "BF16", 1, 2},
};

template <typename T>
T LoadElement(const std::byte* source, int64_t index) {
  T value;
  std::memcpy(&value, source + index * static_cast<int64_t>(sizeof(T)),
              sizeof(T));
  return value;
}

}  // namespace

std::optional<QuantTraits> FindQuantTraits(uint32_t gguf_type) {
  for (const QuantTraits& traits : kTraits) {
    if (static_cast<uint32_t>(traits.type) == gguf_type) return traits;
  }
  return std::nullopt;
}

const QuantTraits& TraitsOf(QuantType type) {
  for (const QuantTraits& traits : kTraits) {
    if (traits.type == type) return traits;
  }
  CHECK(false, "quantisation type {}", static_cast<uint32_t>(type));
}

int64_t RowBytes(QuantType type, int64_t cols) {
  const QuantTraits& traits = TraitsOf(type);
  CHECK(cols >= 0 && cols % traits.block_values == 0, "{} columns of {}", cols,
        traits.name);
  return cols / traits.block_values * traits.block_bytes;
}

void DequantizeRow(QuantType type, const std::byte* source, int64_t cols,
                   float* out) {
  switch (type) {
    case QuantType::kF32:
      for (int64_t i = 0; i < cols; ++i) out[i] = LoadElement<float>(source, i);
      return;
    case QuantType::kF16:
      for (int64_t i = 0; i < cols; ++i) {
        out[i] = HalfToFloat(LoadElement<uint16_t>(source, i));
      }
      return;
    case QuantType::kBF16:
      for (int64_t i = 0; i < cols; ++i) {
        out[i] = Bf16ToFloat(LoadElement<uint16_t>(source, i));
      }
      return;
    default:
      break;
  }
  const QuantTraits& traits = TraitsOf(type);
  CHECK(cols % traits.block_values == 0, "{} columns of {}", cols, traits.name);
  BlockCodes block;
  for (int64_t i = 0; i < cols; i += traits.block_values) {
    SplitBlock(type, source, block);
    ComputeBlock(type, block, out + i);
    source += traits.block_bytes;
  }
}

}  // namespace conclave::kernels
