#include "kernels/block_codes.h"

#include <cstring>

#include "base/check.h"

namespace conclave::kernels {
namespace {

uint16_t LoadU16(const uint8_t* p) {
  return static_cast<uint16_t>(p[0] | p[1] << 8);
}

// 32 values from 16 bytes: the low nibbles first, then the high ones.
void SplitNibbles(const uint8_t* nibbles, int count, uint8_t* codes) {
  for (int i = 0; i < count; ++i) {
    codes[i] = nibbles[i] & 0x0f;
    codes[i + count] = nibbles[i] >> 4;
  }
}

void AddHighBits(const uint8_t* bits, uint8_t* codes) {
  for (int i = 0; i < 32; ++i) {
    const int high = (bits[i / 8] >> (i % 8)) & 1;
    codes[i] = static_cast<uint8_t>(codes[i] | high << 4);
  }
}

void SplitQ6K(const uint8_t* p, BlockCodes& block) {
  const uint8_t* low = p;
  const uint8_t* high = p + 128;
  for (int half = 0; half < 2; ++half) {
    uint8_t* codes = block.codes + 128 * half;
    for (int i = 0; i < 32; ++i) {
      for (int part = 0; part < 4; ++part) {
        const uint8_t byte = low[64 * half + 32 * (part % 2) + i];
        const int nibble = part < 2 ? byte & 0x0f : byte >> 4;
        const int top = (high[32 * half + i] >> (2 * part)) & 3;
        codes[32 * part + i] = static_cast<uint8_t>(nibble | top << 4);
      }
    }
  }
  std::memcpy(block.bytes, p + 192, 16);
  block.halves[0] = LoadU16(p + 208);
}

}  // namespace

BlockShape ShapeOf(QuantType type) {
  switch (type) {
    case QuantType::kQ4_0:
      return {1, 0, 4, 0};
    case QuantType::kQ4_1:
      return {2, 0, 4, 0};
    case QuantType::kQ5_0:
      return {1, 0, 4, 1};
    case QuantType::kQ5_1:
      return {2, 0, 4, 1};
    case QuantType::kQ8_0:
      return {1, 0, 8, 0};
    case QuantType::kQ4_K:
      return {2, 12, 4, 0};
    case QuantType::kQ5_K:
      return {2, 12, 4, 1};
    case QuantType::kQ6_K:
      return {1, 16, 4, 2};
    case QuantType::kF32:
    case QuantType::kF16:
    case QuantType::kBF16:
      break;
  }
  CHECK(false, "{} has no blocks", TraitsOf(type).name);
}

ScaleAndMin UnpackScaleAndMin(const uint8_t* packed, int j) {
  if (j < 4) {
    return {static_cast<uint8_t>(packed[j] & 63),
            static_cast<uint8_t>(packed[j + 4] & 63)};
  }
  return {
      static_cast<uint8_t>((packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4),
      static_cast<uint8_t>(packed[j + 4] >> 4 | (packed[j] >> 6) << 4)};
}

void SplitBlock(QuantType type, const std::byte* source, BlockCodes& block) {
  const uint8_t* p = reinterpret_cast<const uint8_t*>(source);
  if (type == QuantType::kQ6_K) return SplitQ6K(p, block);

  const BlockShape shape = ShapeOf(type);
  for (int i = 0; i < shape.num_halves; ++i, p += 2) {
    block.halves[i] = LoadU16(p);
  }
  std::memcpy(block.bytes, p, static_cast<size_t>(shape.num_bytes));
  p += shape.num_bytes;
  switch (type) {
    case QuantType::kQ8_0:
      std::memcpy(block.codes, p, 32);
      return;
    case QuantType::kQ4_0:
    case QuantType::kQ4_1:
      return SplitNibbles(p, 16, block.codes);
    case QuantType::kQ5_0:
    case QuantType::kQ5_1:
      SplitNibbles(p + 4, 16, block.codes);
      return AddHighBits(p, block.codes);
    case QuantType::kQ4_K:
      for (int i = 0; i < 4; ++i) {
        SplitNibbles(p + 32 * i, 32, block.codes + 64 * i);
      }
      return;
    case QuantType::kQ5_K:
      for (int i = 0; i < 4; ++i) {
        SplitNibbles(p + 32 + 32 * i, 32, block.codes + 64 * i);
      }
      for (int i = 0; i < 256; ++i) {
        const int high = (p[i % 32] >> (i / 32)) & 1;
        block.codes[i] = static_cast<uint8_t>(block.codes[i] | high << 4);
      }
      return;
    default:
      CHECK(false, "{} has no blocks", TraitsOf(type).name);
  }
}

void ComputeBlock(QuantType type, const BlockCodes& block, float* out) {
  const float d = HalfToFloat(block.halves[0]);
  const float second = HalfToFloat(block.halves[1]);
  switch (type) {
    case QuantType::kQ4_0:
    case QuantType::kQ5_0: {
      const int zero = type == QuantType::kQ4_0 ? 8 : 16;
      for (int i = 0; i < 32; ++i) {
        out[i] = d * static_cast<float>(block.codes[i] - zero);
      }
      return;
    }
    case QuantType::kQ4_1:
    case QuantType::kQ5_1:
      for (int i = 0; i < 32; ++i) {
        out[i] = d * static_cast<float>(block.codes[i]) + second;
      }
      return;
    case QuantType::kQ8_0:
      for (int i = 0; i < 32; ++i) {
        out[i] = d * static_cast<float>(static_cast<int8_t>(block.codes[i]));
      }
      return;
    case QuantType::kQ4_K:
    case QuantType::kQ5_K:
      for (int j = 0; j < 8; ++j) {
        const ScaleAndMin sub = UnpackScaleAndMin(block.bytes, j);
        const float scale = d * static_cast<float>(sub.scale);
        const float min = second * static_cast<float>(sub.min);
        for (int i = 32 * j; i < 32 * j + 32; ++i) {
          out[i] = scale * static_cast<float>(block.codes[i]) - min;
        }
      }
      return;
    case QuantType::kQ6_K:
      for (int i = 0; i < 256; ++i) {
        const int8_t scale = static_cast<int8_t>(block.bytes[i / 16]);
        out[i] = d * static_cast<float>(scale) *
                 static_cast<float>(block.codes[i] - 32);
      }
      return;
    default:
      CHECK(false, "{} has no blocks", TraitsOf(type).name);
  }
}

}  // namespace conclave::kernels
