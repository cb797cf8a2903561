// What one instruction set provides: functions over raw pointers. dispatch.cc
// builds the public Ops on them.
//
// Files compiled for AVX2 or AVX-512 include nothing that could leave a shared
// inline function behind (no std containers, no std::function): the linker
// keeps one copy of such a function for the whole program, and it might be the
// copy that an older processor cannot run.
#ifndef CONCLAVE_KERNELS_ISA_KERNELS_H_
#define CONCLAVE_KERNELS_ISA_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/limits.h"
#include "kernels/quant_type.h"

namespace conclave::kernels {

// Activations without their owner: row i starts i * stride values in.
struct TokenView {
  int64_t m = 0;
  int64_t stride = 0;
  const float* f32 = nullptr;
  const int8_t* q = nullptr;
  const float* scale = nullptr;
  const float* scaled_sum = nullptr;
  const int32_t* sum = nullptr;
  const int16_t* sum16 = nullptr;
};

// Panels that lie together, and where their outputs go.
struct PanelView {
  QuantType type = QuantType::kF32;
  int64_t cols = 0;
  const std::byte* data = nullptr;
  int64_t panel_bytes = 0;
  int64_t num_rows = 0;  // 16 a panel, fewer in a matrix's last
  float* out = nullptr;  // [m, num_rows], rows out_stride apart
  int64_t out_stride = 0;
};

// One query head's row: its vector, its output, and what it may see.
struct AttentionRow {
  const float* q;
  float* out;
  int64_t begin;  // positions [begin, end), not empty
  int64_t end;
};

// Pages of one KV head: K [head_dim][32] and V [32][head_dim], each in its
// page at a fixed offset in bytes.
struct AttentionKv {
  bool is_half = false;
  int64_t head_dim = 0;
  std::byte* const* pages = nullptr;
  int64_t key_offset = 0;
  int64_t value_offset = 0;
};

struct IsaKernels {
  // One token: num_blocks blocks of 32.
  void (*quantize)(const float* x, int64_t num_blocks, int8_t* q, float* scale,
                   int32_t* sum, float* scaled_sum, int16_t* sum16);
  void (*matmul)(const TokenView& x, const PanelView& w);
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps,
                   float* out);
  void (*layer_norm)(const float* x, const float* weight, const float* bias,
                     int64_t n, float eps, float* out);
  void (*add)(float* x, const float* y, int64_t n);
  void (*silu_mul)(const float* gate, const float* up, int64_t n, float* out);
  void (*gelu_tanh_mul)(const float* gate, const float* up, int64_t n,
                        float* out);
  void (*gelu)(float* x, int64_t n);
  void (*rope)(float* x, int64_t num_heads, int64_t head_dim, double position,
               const float* inv_freq, float magnitude);
  void (*to_half)(const float* x, int64_t n, uint16_t* out);
  // Any number of rows, all of one KV head. Each row's result depends on that
  // row alone.
  void (*attend)(const AttentionKv& kv, const AttentionRow* rows,
                 int64_t num_rows, float scale);
};

extern const IsaKernels kScalarKernels;
extern const IsaKernels kAvx2Kernels;
extern const IsaKernels kAvx512Kernels;

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_ISA_KERNELS_H_
