// The fast path's public operations over one instruction set's kernels: the
// checks, the cutting into runs and pages, and the scratch memory. Compiled
// for the baseline processor.
#ifndef CONCLAVE_KERNELS_FAST_OPS_H_
#define CONCLAVE_KERNELS_FAST_OPS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "kernels/isa_kernels.h"
#include "kernels/ops.h"

namespace conclave::kernels {

template <const IsaKernels& K>
struct FastOpsOf {
  static void Quantize(Activations& x, int64_t begin, int64_t end) {
    QuantizeBlocks(x, begin, end, 0, x.k() / 32);
  }

  static void QuantizeBlocks(Activations& x, int64_t begin, int64_t end,
                             int64_t block_begin, int64_t block_end) {
    CHECK(begin >= 0 && begin <= end && end <= x.m(), "rows {}..{} of {}",
          begin, end, x.m());
    CHECK(
        block_begin >= 0 && block_begin <= block_end && block_end <= x.k() / 32,
        "blocks {}..{} of {}", block_begin, block_end, x.k() / 32);
    const int64_t b = block_begin;
    for (int64_t i = begin; i < end; ++i) {
      K.quantize(x.row(i) + b * 32, block_end - b, x.q(i) + b * 32,
                 x.scale(i) + b, x.sum(i) + b, x.scaled_sum(i) + b,
                 x.sum16(i) + b * 2);
    }
  }

  static void Matmul(const Activations& x, const PackedMatrix& w,
                     int64_t panel_begin, int64_t panel_end, float* out,
                     int64_t out_stride) {
    MatmulRows(x, 0, x.m(), w, panel_begin, panel_end, out, out_stride);
  }

  static void MatmulRows(const Activations& x, int64_t row_begin,
                         int64_t row_end, const PackedMatrix& w,
                         int64_t panel_begin, int64_t panel_end, float* out,
                         int64_t out_stride) {
    CHECK(0 <= row_begin && row_begin <= row_end && row_end <= x.m(),
          "rows {}..{} of {}", row_begin, row_end, x.m());
    if (row_begin == row_end) return;
    CHECK(x.k() == w.cols, "activations {} wide, weights {}", x.k(), w.cols);
    CHECK(panel_begin >= 0 && panel_end <= w.num_panels(),
          "panels {}..{} of {}", panel_begin, panel_end, w.num_panels());
    const TokenView tokens = {
        .m = row_end - row_begin,
        .stride = x.stride(),
        .f32 = x.row(row_begin),
        .q = x.q(row_begin),
        .scale = x.scale(row_begin),
        .scaled_sum = x.scaled_sum(row_begin),
        .sum = x.sum(row_begin),
        .sum16 = x.sum16(row_begin),
    };
    PanelView view;
    view.type = w.type;
    view.cols = w.cols;
    view.panel_bytes = PanelBytes(w.type, w.cols);
    view.out_stride = out_stride;
    int64_t next = panel_begin;
    for (const PanelRun& run : w.runs) {
      const int64_t end = std::min(panel_end, run.first_panel + run.num_panels);
      if (run.first_panel > next || next >= end) continue;
      view.data = run.data + (next - run.first_panel) * view.panel_bytes;
      view.num_rows = std::min(w.rows, end * kPanelRows) - next * kPanelRows;
      view.out = out + row_begin * out_stride + next * kPanelRows;
      K.matmul(tokens, view);
      next = end;
    }
    CHECK(next >= panel_end, "panel {} is in no run", next);
  }

  static void Rope(float* x, int64_t num_heads, int64_t head_dim,
                   int64_t position, const RopeTable& table) {
    CHECK(static_cast<int64_t>(table.inv_freq.size()) == head_dim / 2,
          "{} frequencies for head_dim {}", table.inv_freq.size(), head_dim);
    K.rope(x, num_heads, head_dim, static_cast<double>(position),
           table.inv_freq.data(), table.magnitude);
  }

  static void StoreKv(const KvView& kv, int64_t position, const float* k,
                      const float* v) {
    const int64_t d = kv.head_dim;
    CHECK(d <= kMaxHeadDim, "head_dim {}", d);
    const auto page_index = static_cast<size_t>(position / kKvPageTokens);
    CHECK(position >= 0 && page_index < kv.pages.size(),
          "position {} with {} pages", position, kv.pages.size());
    std::byte* page = kv.pages[page_index];
    const int64_t slot = position % kKvPageTokens;
    const int64_t values_at = kv.num_kv_heads * d * kKvPageTokens;
    for (int64_t h = 0; h < kv.num_kv_heads; ++h) {
      const int64_t key_at = h * d * kKvPageTokens + slot;
      const int64_t value_at = values_at + (h * kKvPageTokens + slot) * d;
      if (kv.type == KvType::kF32) {
        float* to = reinterpret_cast<float*>(page);
        for (int64_t i = 0; i < d; ++i) {
          to[key_at + i * kKvPageTokens] = k[h * d + i];
        }
        std::memcpy(to + value_at, v + h * d, static_cast<size_t>(d) * 4);
      } else {
        uint16_t* to = reinterpret_cast<uint16_t*>(page);
        uint16_t halves[kMaxHeadDim];
        K.to_half(k + h * d, d, halves);
        for (int64_t i = 0; i < d; ++i) {
          to[key_at + i * kKvPageTokens] = halves[i];
        }
        K.to_half(v + h * d, d, to + value_at);
      }
    }
  }

  static void Attention(const float* q, int64_t q_stride, int64_t num_tokens,
                        int64_t first_position, int64_t num_heads,
                        int64_t head_begin, int64_t head_end, const KvView& kv,
                        float scale, int64_t window, float* out,
                        int64_t out_stride) {
    if (num_tokens == 0) return;
    const int64_t d = kv.head_dim;
    CHECK(d <= kMaxHeadDim, "head_dim {}", d);
    CHECK(num_heads % kv.num_kv_heads == 0, "{} heads over {}", num_heads,
          kv.num_kv_heads);
    CHECK((first_position + num_tokens - 1) / kKvPageTokens <
              static_cast<int64_t>(kv.pages.size()),
          "position {} with {} pages", first_position + num_tokens - 1,
          kv.pages.size());
    const int64_t group = num_heads / kv.num_kv_heads;
    const int64_t element = KvTypeBytes(kv.type);
    const int64_t head_bytes = kKvPageTokens * d * element;
    // Rows of one KV head, token by token: neighbours see almost the same
    // positions and share their loads.
    constexpr int64_t kRows = 64;
    AttentionRow rows[kRows];
    for (int64_t kv_head = head_begin / group; kv_head * group < head_end;
         ++kv_head) {
      const AttentionKv view = {
          .is_half = kv.type == KvType::kF16,
          .head_dim = d,
          .pages = kv.pages.data(),
          .key_offset = kv_head * head_bytes,
          .value_offset = (kv.num_kv_heads + kv_head) * head_bytes,
      };
      const int64_t begin = std::max(head_begin, kv_head * group);
      const int64_t end = std::min(head_end, (kv_head + 1) * group);
      int64_t count = 0;
      for (int64_t t = 0; t < num_tokens; ++t) {
        const int64_t visible = first_position + t + 1;
        for (int64_t h = begin; h < end; ++h) {
          rows[count++] = {
              q + t * q_stride + h * d, out + t * out_stride + h * d,
              window > 0 ? std::max<int64_t>(0, visible - window) : int64_t{0},
              visible};
          if (count == kRows) {
            K.attend(view, rows, count, scale);
            count = 0;
          }
        }
      }
      K.attend(view, rows, count, scale);
    }
  }

  // The text's keys and values are laid out as pages, then read as above.
  static void EncoderAttention(const float* q, const float* k, const float* v,
                               int64_t stride, int64_t num_tokens,
                               int64_t num_heads, int64_t head_begin,
                               int64_t head_end, int64_t head_dim, float scale,
                               float* out, int64_t out_stride) {
    CHECK(head_dim <= kMaxHeadDim, "head_dim {}", head_dim);
    CHECK(head_end <= num_heads, "heads ..{} of {}", head_end, num_heads);
    thread_local std::vector<float> memory;
    thread_local std::vector<std::byte*> pages;
    thread_local std::vector<AttentionRow> rows;
    const int64_t num_pages = (num_tokens + kKvPageTokens - 1) / kKvPageTokens;
    const int64_t page_values = 2 * kKvPageTokens * head_dim;
    memory.assign(static_cast<size_t>(num_pages * page_values), 0.0f);
    pages.clear();
    for (int64_t p = 0; p < num_pages; ++p) {
      pages.push_back(
          reinterpret_cast<std::byte*>(memory.data() + p * page_values));
    }
    const AttentionKv view = {
        .is_half = false,
        .head_dim = head_dim,
        .pages = pages.data(),
        .key_offset = 0,
        .value_offset = kKvPageTokens * head_dim * 4,
    };
    for (int64_t h = head_begin; h < head_end; ++h) {
      rows.clear();
      for (int64_t t = 0; t < num_tokens; ++t) {
        const int64_t at = t * stride + h * head_dim;
        float* keys =
            memory.data() + t / kKvPageTokens * page_values + t % kKvPageTokens;
        for (int64_t d = 0; d < head_dim; ++d) {
          keys[d * kKvPageTokens] = k[at + d];
        }
        float* values = memory.data() + t / kKvPageTokens * page_values +
                        (kKvPageTokens + t % kKvPageTokens) * head_dim;
        std::copy_n(v + at, head_dim, values);
        rows.push_back(
            {q + at, out + t * out_stride + h * head_dim, 0, num_tokens});
      }
      K.attend(view, rows.data(), num_tokens, scale);
    }
  }

  static Ops Table(std::string_view name) {
    return {
        .name = name,
        .quantize = Quantize,
        .quantize_blocks = QuantizeBlocks,
        .matmul = Matmul,
        .matmul_rows = MatmulRows,
        .rms_norm = K.rms_norm,
        .layer_norm = K.layer_norm,
        .add = K.add,
        .silu_mul = K.silu_mul,
        .gelu_tanh_mul = K.gelu_tanh_mul,
        .gelu = K.gelu,
        .rope = Rope,
        .store_kv = StoreKv,
        .attention = Attention,
        .encoder_attention = EncoderAttention,
    };
  }
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_FAST_OPS_H_
