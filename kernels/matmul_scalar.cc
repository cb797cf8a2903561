#include "kernels/matmul_scalar.h"

#include <cmath>
#include <cstring>

#include "kernels/block_codes.h"
#include "kernels/block_record.h"
#include "kernels/packed_layout.h"

namespace conclave::kernels {
namespace {

// Plain weights: one chain of fused multiply-adds over ascending columns.
void PlainPanel(const TokenView& x, const PanelView& w, const std::byte* panel,
                int64_t num_rows, float* out) {
  const int64_t size = TraitsOf(w.type).block_bytes;
  for (int64_t i = 0; i < x.m; ++i) {
    for (int64_t r = 0; r < num_rows; ++r) {
      float acc = 0.0f;
      for (int64_t c = 0; c < w.cols; ++c) {
        float weight;
        DequantizeRow(w.type, panel + (c * kPanelRows + r) * size, 1, &weight);
        acc = std::fma(weight, x.f32[i * x.stride + c], acc);
      }
      out[i * w.out_stride + r] = acc;
    }
  }
}

int32_t Dot(const uint8_t* codes, int zero, const int8_t* q, int n) {
  int32_t sum = 0;
  for (int i = 0; i < n; ++i) sum += (codes[i] - zero) * q[i];
  return sum;
}

// Adds one row's block times one token's, 32 columns at a time.
float AddBlock(QuantType type, const BlockCodes& block, const TokenView& x,
               int64_t token, int64_t column, float acc) {
  const float d = HalfToFloat(block.halves[0]);
  const float second = HalfToFloat(block.halves[1]);
  const int64_t values = TraitsOf(type).block_values;
  for (int64_t j = 0; j < values / 32; ++j) {
    const int64_t at = token * x.stride + column + 32 * j;
    const uint8_t* codes = block.codes + 32 * j;
    const int8_t* q = x.q + at;
    const float scale = x.scale[at / 32];
    float weight_scale = d;
    float weight_min = 0.0f;
    bool has_min = false;
    int32_t sum = 0;
    switch (type) {
      case QuantType::kQ4_0:
        sum = Dot(codes, 8, q, 32);
        break;
      case QuantType::kQ5_0:
        sum = Dot(codes, 16, q, 32);
        break;
      case QuantType::kQ8_0:
        for (int i = 0; i < 32; ++i) {
          sum += static_cast<int8_t>(codes[i]) * q[i];
        }
        break;
      case QuantType::kQ6_K:
        for (int half = 0; half < 2; ++half) {
          sum += static_cast<int8_t>(block.bytes[2 * j + half]) *
                 Dot(codes + 16 * half, 32, q + 16 * half, 16);
        }
        break;
      case QuantType::kQ4_1:
      case QuantType::kQ5_1:
        sum = Dot(codes, 0, q, 32);
        weight_min = second;
        has_min = true;
        break;
      default: {  // Q4_K, Q5_K
        const ScaleAndMin sub =
            UnpackScaleAndMin(block.bytes, static_cast<int>(j));
        sum = Dot(codes, 0, q, 32);
        weight_scale = d * static_cast<float>(sub.scale);
        weight_min = -(second * static_cast<float>(sub.min));
        has_min = true;
        break;
      }
    }
    acc = std::fma(static_cast<float>(sum), weight_scale * scale, acc);
    if (has_min) acc = std::fma(weight_min, x.scaled_sum[at / 32], acc);
  }
  return acc;
}

void QuantizedPanel(const TokenView& x, const PanelView& w,
                    const std::byte* panel, int64_t num_rows, float* out) {
  const int64_t values = TraitsOf(w.type).block_values;
  const BlockShape shape = ShapeOf(w.type);
  const int64_t record_bytes = RecordBytes(shape, values);
  BlockCodes block;
  for (int64_t r = 0; r < num_rows; ++r) {
    const RecordRow row(shape, values, r);
    for (int64_t i = 0; i < x.m; ++i) out[i * w.out_stride + r] = 0.0f;
    const uint8_t* record = reinterpret_cast<const uint8_t*>(panel);
    for (int64_t c = 0; c < w.cols; c += values, record += record_bytes) {
      row.Read(record, block);
      for (int64_t i = 0; i < x.m; ++i) {
        float& y = out[i * w.out_stride + r];
        y = AddBlock(w.type, block, x, i, c, y);
      }
    }
  }
}

}  // namespace

void MatmulScalar(const TokenView& x, const PanelView& w) {
  for (int64_t begin = 0; begin < w.num_rows; begin += kPanelRows) {
    const std::byte* panel = w.data + begin / kPanelRows * w.panel_bytes;
    const int64_t left = w.num_rows - begin;
    const int64_t num_rows = left < kPanelRows ? left : kPanelRows;
    if (IsPlain(w.type)) {
      PlainPanel(x, w, panel, num_rows, w.out + begin);
    } else {
      QuantizedPanel(x, w, panel, num_rows, w.out + begin);
    }
  }
}

}  // namespace conclave::kernels
