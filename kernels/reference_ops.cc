// The oracle: plain loops, fp32 activations, dequantised weights, sums and
// transcendental functions in double. It shares with the fast path only the
// panel and KV page layouts.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "base/check.h"
#include "kernels/ops.h"

namespace conclave::kernels {
namespace {

void Quantize(Activations& x, int64_t begin, int64_t end) {
  CHECK(begin >= 0 && begin <= end && end <= x.m(), "rows {}..{} of {}", begin,
        end, x.m());
}

void QuantizeBlocks(Activations& x, int64_t begin, int64_t end, int64_t,
                    int64_t) {
  Quantize(x, begin, end);
}

void MatmulRows(const Activations& x, int64_t row_begin, int64_t row_end,
                const PackedMatrix& w, int64_t panel_begin, int64_t panel_end,
                float* out, int64_t out_stride) {
  CHECK(x.k() == w.cols, "activations {} wide, weights {}", x.k(), w.cols);
  CHECK(0 <= row_begin && row_begin <= row_end && row_end <= x.m(),
        "rows {}..{} of {}", row_begin, row_end, x.m());
  std::vector<float> row(static_cast<size_t>(w.cols));
  const int64_t end = std::min(w.rows, panel_end * kPanelRows);
  for (int64_t r = panel_begin * kPanelRows; r < end; ++r) {
    UnpackRow(w, r, row.data());
    for (int64_t i = row_begin; i < row_end; ++i) {
      const float* xi = x.row(i);
      double sum = 0;
      for (int64_t c = 0; c < w.cols; ++c) sum += double{row[c]} * xi[c];
      out[i * out_stride + r] = static_cast<float>(sum);
    }
  }
}

void Matmul(const Activations& x, const PackedMatrix& w, int64_t panel_begin,
            int64_t panel_end, float* out, int64_t out_stride) {
  MatmulRows(x, 0, x.m(), w, panel_begin, panel_end, out, out_stride);
}

void RmsNorm(const float* x, const float* weight, int64_t n, float eps,
             float* out) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{x[i]} * x[i];
  const double scale = 1 / std::sqrt(sum / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) {
    out[i] = static_cast<float>(x[i] * scale * weight[i]);
  }
}

void LayerNorm(const float* x, const float* weight, const float* bias,
               int64_t n, float eps, float* out) {
  double mean = 0;
  for (int64_t i = 0; i < n; ++i) mean += x[i];
  mean /= static_cast<double>(n);
  double var = 0;
  for (int64_t i = 0; i < n; ++i) var += (x[i] - mean) * (x[i] - mean);
  const double scale = 1 / std::sqrt(var / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) {
    out[i] = static_cast<float>((x[i] - mean) * scale * weight[i] + bias[i]);
  }
}

void Add(float* x, const float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] += y[i];
}

void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) {
    const double g = gate[i];
    out[i] = static_cast<float>(g / (1 + std::exp(-g)) * up[i]);
  }
}

void GeluTanhMul(const float* gate, const float* up, int64_t n, float* out) {
  constexpr double kSqrt2OverPi = 0.79788456080286535588;
  for (int64_t i = 0; i < n; ++i) {
    const double g = gate[i];
    const double inner = kSqrt2OverPi * (g + 0.044715 * g * g * g);
    out[i] = static_cast<float>(0.5 * g * (1 + std::tanh(inner)) * up[i]);
  }
}

void Gelu(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const double v = x[i];
    x[i] = static_cast<float>(0.5 * v * (1 + std::erf(v / std::sqrt(2.0))));
  }
}

void Rope(float* x, int64_t num_heads, int64_t head_dim, int64_t position,
          const RopeTable& table) {
  const int64_t half = head_dim / 2;
  CHECK(static_cast<int64_t>(table.inv_freq.size()) == half,
        "{} frequencies for head_dim {}", table.inv_freq.size(), head_dim);
  for (int64_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * table.inv_freq[i];
    const double c = std::cos(angle) * table.magnitude;
    const double s = std::sin(angle) * table.magnitude;
    for (int64_t h = 0; h < num_heads; ++h) {
      float* a = x + h * head_dim + i;
      const double x0 = a[0];
      const double x1 = a[half];
      a[0] = static_cast<float>(x0 * c - x1 * s);
      a[half] = static_cast<float>(x0 * s + x1 * c);
    }
  }
}

// Element offsets in a page.
int64_t KeyAt(const KvView& kv, int64_t head, int64_t slot, int64_t d) {
  return (head * kv.head_dim + d) * kKvPageTokens + slot;
}
int64_t ValueAt(const KvView& kv, int64_t head, int64_t slot, int64_t d) {
  return ((kv.num_kv_heads + head) * kKvPageTokens + slot) * kv.head_dim + d;
}

void PutElement(const KvView& kv, std::byte* page, int64_t at, float value) {
  if (kv.type == KvType::kF32) {
    std::memcpy(page + at * 4, &value, 4);
  } else {
    const uint16_t half = FloatToHalf(value);
    std::memcpy(page + at * 2, &half, 2);
  }
}

double GetElement(const KvView& kv, const std::byte* page, int64_t at) {
  if (kv.type == KvType::kF32) {
    float value;
    std::memcpy(&value, page + at * 4, 4);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, page + at * 2, 2);
  return HalfToFloat(half);
}

void StoreKv(const KvView& kv, int64_t position, const float* k,
             const float* v) {
  const int64_t slot = position % kKvPageTokens;
  std::byte* page = kv.pages[static_cast<size_t>(position / kKvPageTokens)];
  for (int64_t h = 0; h < kv.num_kv_heads; ++h) {
    for (int64_t d = 0; d < kv.head_dim; ++d) {
      PutElement(kv, page, KeyAt(kv, h, slot, d), k[h * kv.head_dim + d]);
      PutElement(kv, page, ValueAt(kv, h, slot, d), v[h * kv.head_dim + d]);
    }
  }
}

// out = softmax(scores) * values, for one query and head.
template <typename ValueOf>
void WeighValues(std::vector<double>& scores, int64_t head_dim,
                 ValueOf value_of, float* out) {
  double top = -std::numeric_limits<double>::infinity();
  for (double s : scores) top = std::max(top, s);
  double sum = 0;
  for (double& s : scores) {
    s = std::exp(s - top);
    sum += s;
  }
  for (int64_t d = 0; d < head_dim; ++d) {
    double acc = 0;
    for (size_t j = 0; j < scores.size(); ++j) {
      acc += scores[j] * value_of(static_cast<int64_t>(j), d);
    }
    out[d] = static_cast<float>(acc / sum);
  }
}

void Attention(const float* q, int64_t q_stride, int64_t num_tokens,
               int64_t first_position, int64_t num_heads, int64_t head_begin,
               int64_t head_end, const KvView& kv, float scale, int64_t window,
               float* out, int64_t out_stride) {
  CHECK(num_heads % kv.num_kv_heads == 0, "{} heads over {}", num_heads,
        kv.num_kv_heads);
  const int64_t group = num_heads / kv.num_kv_heads;
  std::vector<double> scores;
  for (int64_t t = 0; t < num_tokens; ++t) {
    const int64_t end = first_position + t + 1;
    const int64_t begin =
        window > 0 ? std::max<int64_t>(0, end - window) : int64_t{0};
    const auto page_of = [&](int64_t position) {
      return kv.pages[static_cast<size_t>(position / kKvPageTokens)];
    };
    for (int64_t h = head_begin; h < head_end; ++h) {
      const float* qh = q + t * q_stride + h * kv.head_dim;
      scores.clear();
      for (int64_t p = begin; p < end; ++p) {
        double dot = 0;
        for (int64_t d = 0; d < kv.head_dim; ++d) {
          dot += qh[d] * GetElement(kv, page_of(p),
                                    KeyAt(kv, h / group, p % kKvPageTokens, d));
        }
        scores.push_back(dot * scale);
      }
      WeighValues(
          scores, kv.head_dim,
          [&](int64_t j, int64_t d) {
            const int64_t p = begin + j;
            return GetElement(kv, page_of(p),
                              ValueAt(kv, h / group, p % kKvPageTokens, d));
          },
          out + t * out_stride + h * kv.head_dim);
    }
  }
}

void EncoderAttention(const float* q, const float* k, const float* v,
                      int64_t stride, int64_t num_tokens, int64_t num_heads,
                      int64_t head_begin, int64_t head_end, int64_t head_dim,
                      float scale, float* out, int64_t out_stride) {
  CHECK(head_end <= num_heads, "heads ..{} of {}", head_end, num_heads);
  std::vector<double> scores(static_cast<size_t>(num_tokens));
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (int64_t h = head_begin; h < head_end; ++h) {
      const float* qh = q + t * stride + h * head_dim;
      for (int64_t p = 0; p < num_tokens; ++p) {
        const float* kh = k + p * stride + h * head_dim;
        double dot = 0;
        for (int64_t d = 0; d < head_dim; ++d) dot += double{qh[d]} * kh[d];
        scores[static_cast<size_t>(p)] = dot * scale;
      }
      WeighValues(
          scores, head_dim,
          [&](int64_t j, int64_t d) {
            return double{v[j * stride + h * head_dim + d]};
          },
          out + t * out_stride + h * head_dim);
    }
  }
}

}  // namespace

const Ops& ReferenceOps() {
  static constexpr Ops kOps = {
      .name = "reference",
      .quantize = Quantize,
      .quantize_blocks = QuantizeBlocks,
      .matmul = Matmul,
      .matmul_rows = MatmulRows,
      .rms_norm = RmsNorm,
      .layer_norm = LayerNorm,
      .add = Add,
      .silu_mul = SiluMul,
      .gelu_tanh_mul = GeluTanhMul,
      .gelu = Gelu,
      .rope = Rope,
      .store_kv = StoreKv,
      .attention = Attention,
      .encoder_attention = EncoderAttention,
  };
  return kOps;
}

}  // namespace conclave::kernels
