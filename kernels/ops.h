// Every public operation of the kernels, with its shapes. No I/O, no locks, no
// threads: the caller cuts the work (over panels, heads or tokens) and calls
// from as many threads as it likes.
//
// Neighbours never matter: the result for one token, one output feature or one
// head depends on that token's inputs alone, bit for bit. Each output has one
// accumulation order, the same for one token and for many, for any cut of the
// work, and for every instruction set of one path.
//
// Two paths implement the table:
//   Reference   scalar, fp32 activations, dequantised weights, sums in double:
//               the oracle
//   Fast        activations quantised to int8 per token and block of 32,
//               integer dot products inside a block, fp32 across blocks in
//               ascending order; scalar, AVX2 and AVX-512 agree bit for bit
#ifndef CONCLAVE_KERNELS_OPS_H_
#define CONCLAVE_KERNELS_OPS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "kernels/packed_matrix.h"
#include "kernels/quant_type.h"

namespace conclave::kernels {

// Rows of activations: [m, k] fp32 and, on the fast path, their int8 form. It
// owns its buffers and grows; reuse one object across calls.
class Activations {
 public:
  // Makes room for m rows of k values. Contents are then unspecified. Rows are
  // stride() apart: k rounded up to a multiple of 32.
  void Resize(int64_t m, int64_t k);

  // Row i of this one = row j of `from`, in both forms; without the fp32 form
  // where only quantised weights will read it. Same k.
  enum class Copied { kBothForms, kInt8 };
  void CopyRow(int64_t i, const Activations& from, int64_t j, Copied what);

  int64_t m() const { return m_; }
  int64_t k() const { return k_; }
  int64_t stride() const { return stride_; }
  float* row(int64_t i) { return f32_.data() + i * stride_; }
  const float* row(int64_t i) const { return f32_.data() + i * stride_; }

  // int8 values, symmetric, in [-127, 127]: value = q * scale. They exist for
  // whole blocks of 32; a last part block (plain weights only) has none.
  int8_t* q(int64_t i) { return q_.data() + i * stride_; }
  const int8_t* q(int64_t i) const { return q_.data() + i * stride_; }
  // One scale, and the sum of the 32 int8 values, for each block of 32.
  float* scale(int64_t i) { return scale_.data() + i * (stride_ / 32); }
  const float* scale(int64_t i) const {
    return scale_.data() + i * (stride_ / 32);
  }
  int32_t* sum(int64_t i) { return sum_.data() + i * (stride_ / 32); }
  const int32_t* sum(int64_t i) const {
    return sum_.data() + i * (stride_ / 32);
  }
  // scale * sum, rounded once: what a block's minimum is multiplied by.
  float* scaled_sum(int64_t i) {
    return scaled_sum_.data() + i * (stride_ / 32);
  }
  const float* scaled_sum(int64_t i) const {
    return scaled_sum_.data() + i * (stride_ / 32);
  }
  // The sums of 16 int8 values: Q6_K has a scale for each 16.
  int16_t* sum16(int64_t i) { return sum16_.data() + i * (stride_ / 16); }
  const int16_t* sum16(int64_t i) const {
    return sum16_.data() + i * (stride_ / 16);
  }

 private:
  int64_t m_ = 0;
  int64_t k_ = 0;
  int64_t stride_ = 0;
  std::vector<float> f32_;
  std::vector<int8_t> q_;
  std::vector<float> scale_;
  std::vector<int32_t> sum_;
  std::vector<float> scaled_sum_;
  std::vector<int16_t> sum16_;
};

enum class KvType : uint8_t { kF32, kF16 };

inline constexpr int64_t kKvPageTokens = 32;

inline int64_t KvTypeBytes(KvType type) { return type == KvType::kF32 ? 4 : 2; }

// One sequence's keys and values in one layer, in pages of 32 tokens.
//   pages[p] -> K [num_kv_heads][head_dim][32], then
//               V [num_kv_heads][32][head_dim], of `type`
// Keys lie transposed, so that one page's 32 scores need no horizontal sums.
// Only store_kv and attention look inside; whole pages may be copied.
struct KvView {
  KvType type = KvType::kF16;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  std::span<std::byte* const> pages;

  int64_t PageBytes() const {
    return 2 * num_kv_heads * kKvPageTokens * head_dim * KvTypeBytes(type);
  }
};

// How position turns into an angle; rotate-half ("NeoX") pairing (i, i + d/2).
// Importers permute weights that were stored for interleaved pairing.
//   angle(pos, i) = pos * inv_freq[i],  i in [0, head_dim / 2)
struct RopeTable {
  std::vector<float> inv_freq;
  float magnitude = 1.0f;  // YaRN's attention factor
};

// A path's operations. All pointers are set.
struct Ops {
  std::string_view name;  // "reference", "scalar", "avx2", "avx512"

  // Fills the int8 form of rows [begin, end) from their fp32 form. A no-op on
  // the reference path.
  void (*quantize)(Activations& x, int64_t begin, int64_t end);

  // The same for blocks of 32 values [block_begin, block_end) of these rows:
  // for who has just computed them.
  void (*quantize_blocks)(Activations& x, int64_t begin, int64_t end,
                          int64_t block_begin, int64_t block_end);

  // out[i, r] = sum_c W[r, c] x[i, c], for all i in [0, m) and the rows r of
  // panels [panel_begin, panel_end). Rows past W.rows are not written.
  //   out [m, out_stride] fp32
  void (*matmul)(const Activations& x, const PackedMatrix& w,
                 int64_t panel_begin, int64_t panel_end, float* out,
                 int64_t out_stride);

  // The same for rows [row_begin, row_end) of x alone: an expert's tokens.
  // Each is written where matmul writes it.
  void (*matmul_rows)(const Activations& x, int64_t row_begin, int64_t row_end,
                      const PackedMatrix& w, int64_t panel_begin,
                      int64_t panel_end, float* out, int64_t out_stride);

  // out = x / sqrt(mean(x^2) + eps) * weight; out may be x            [n]
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps,
                   float* out);
  // out = (x - mean) / sqrt(var + eps) * weight + bias              [n]
  void (*layer_norm)(const float* x, const float* weight, const float* bias,
                     int64_t n, float eps, float* out);
  // x += y                                                          [n]
  void (*add)(float* x, const float* y, int64_t n);
  // out = silu(gate) * up;  out may be gate                         [n]
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);
  // out = gelu(gate) * up, the form with tanh; out may be gate        [n]
  void (*gelu_tanh_mul)(const float* gate, const float* up, int64_t n,
                        float* out);
  // x = gelu(x): the exact form (erf), BERT's                       [n]
  void (*gelu)(float* x, int64_t n);
  // Rotates num_heads vectors of head_dim in place.
  void (*rope)(float* x, int64_t num_heads, int64_t head_dim, int64_t position,
               const RopeTable& table);
  // Stores one token's k and v [num_kv_heads, head_dim] at `position`.
  void (*store_kv)(const KvView& kv, int64_t position, const float* k,
                   const float* v);
  // Causal attention of consecutive query tokens of one sequence.
  //   q, out [num_tokens, num_heads, head_dim], row stride q_stride floats
  //   token t sees positions [first_visible, first_position + t], where
  //   first_visible = max(0, first_position + t + 1 - window), window 0 = all
  // Query heads [head_begin, head_end) only; head h reads KV head
  // h / (num_heads / num_kv_heads). Softmax runs online over pages in
  // ascending order: one fixed order for any num_tokens.
  void (*attention)(const float* q, int64_t q_stride, int64_t num_tokens,
                    int64_t first_position, int64_t num_heads,
                    int64_t head_begin, int64_t head_end, const KvView& kv,
                    float scale, int64_t window, float* out,
                    int64_t out_stride);
  // Full (bidirectional) attention inside one text: BERT's.
  //   q, k, v, out [num_tokens, num_heads, head_dim], stride floats per token
  void (*encoder_attention)(const float* q, const float* k, const float* v,
                            int64_t stride, int64_t num_tokens,
                            int64_t num_heads, int64_t head_begin,
                            int64_t head_end, int64_t head_dim, float scale,
                            float* out, int64_t out_stride);
};

enum class Isa { kScalar, kAvx2, kAvx512 };

std::string_view IsaName(Isa isa);
// What this processor can run, best last; never empty.
std::vector<Isa> SupportedIsas();
Isa BestIsa();

const Ops& ReferenceOps();
// CHECK-fails when the processor lacks `isa`.
const Ops& FastOps(Isa isa = BestIsa());

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_OPS_H_
