// Random weights for tests and benches: blocks of any type whose bytes are
// random and whose scales are finite and of ordinary size, packed into aligned
// panels.
#ifndef CONCLAVE_KERNELS_TEST_WEIGHTS_H_
#define CONCLAVE_KERNELS_TEST_WEIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "kernels/packed_matrix.h"
#include "kernels/quant_type.h"

namespace conclave::kernels {

inline constexpr QuantType kAllQuantTypes[] = {
    QuantType::kF32,  QuantType::kF16,  QuantType::kBF16, QuantType::kQ4_0,
    QuantType::kQ4_1, QuantType::kQ5_0, QuantType::kQ5_1, QuantType::kQ8_0,
    QuantType::kQ4_K, QuantType::kQ5_K, QuantType::kQ6_K};

struct FreeBytes {
  void operator()(std::byte* p) const { std::free(p); }
};
using AlignedBytes = std::unique_ptr<std::byte[], FreeBytes>;

inline AlignedBytes MakeAligned(int64_t bytes, size_t alignment = 64) {
  const size_t size =
      (static_cast<size_t>(bytes) + alignment - 1) / alignment * alignment;
  return AlignedBytes(
      static_cast<std::byte*>(std::aligned_alloc(alignment, size)));
}

// One row in GGUF's layout. Every code occurs; scales are near 0.02.
inline void FillRandomRow(QuantType type, int64_t cols, std::mt19937& random,
                          std::byte* row) {
  const QuantTraits& traits = TraitsOf(type);
  std::uniform_real_distribution<float> unit(-1.0f, 1.0f);
  const auto put_half = [&](std::byte* at, float v) {
    const uint16_t half = FloatToHalf(v);
    std::memcpy(at, &half, 2);
  };
  for (int64_t c = 0; c < cols; c += traits.block_values) {
    std::byte* block = row + c / traits.block_values * traits.block_bytes;
    if (traits.block_values == 1) {
      const float v = unit(random);
      const uint16_t bf16 = FloatToBf16(v);
      if (type == QuantType::kF32) std::memcpy(block, &v, 4);
      if (type == QuantType::kF16) put_half(block, v);
      if (type == QuantType::kBF16) std::memcpy(block, &bf16, 2);
      continue;
    }
    for (int64_t i = 0; i < traits.block_bytes; ++i) {
      block[i] = static_cast<std::byte>(random());
    }
    put_half(block + (type == QuantType::kQ6_K ? 208 : 0),
             0.02f + 0.01f * unit(random));
    if (type == QuantType::kQ4_1 || type == QuantType::kQ5_1 ||
        type == QuantType::kQ4_K || type == QuantType::kQ5_K) {
      put_half(block + 2, 0.1f * unit(random));
    }
  }
}

// A packed random matrix that owns its memory, and the rows it came from.
class TestMatrix {
 public:
  TestMatrix(QuantType type, int64_t rows, int64_t cols, uint32_t seed,
             int64_t panels_per_run = 1 << 30)
      : row_bytes_(RowBytes(type, cols)) {
    std::mt19937 random(seed);
    source_.resize(static_cast<size_t>(rows * row_bytes_));
    for (int64_t r = 0; r < rows; ++r) {
      FillRandomRow(type, cols, random, source_.data() + r * row_bytes_);
    }
    const int64_t panel_bytes = PanelBytes(type, cols);
    const int64_t num_panels = NumPanels(rows);
    for (int64_t p = 0; p < num_panels; p += panels_per_run) {
      const int64_t count =
          num_panels - p < panels_per_run ? num_panels - p : panels_per_run;
      memory_.push_back(MakeAligned(count * panel_bytes));
      for (int64_t i = 0; i < count; ++i) {
        const int64_t first = (p + i) * kPanelRows;
        const int64_t left = rows - first;
        PackPanel(type, source_.data() + first * row_bytes_,
                  left < kPanelRows ? left : kPanelRows, cols,
                  memory_.back().get() + i * panel_bytes);
      }
      runs_.push_back({memory_.back().get(), p, count});
    }
    matrix_.type = type;
    matrix_.rows = rows;
    matrix_.cols = cols;
    matrix_.runs = runs_;
  }
  TestMatrix(const TestMatrix&) = delete;
  TestMatrix& operator=(const TestMatrix&) = delete;

  const PackedMatrix& packed() const { return matrix_; }
  const std::byte* source_row(int64_t r) const {
    return source_.data() + r * row_bytes_;
  }

 private:
  int64_t row_bytes_;
  std::vector<std::byte> source_;
  std::vector<AlignedBytes> memory_;
  std::vector<PanelRun> runs_;
  PackedMatrix matrix_;
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_TEST_WEIGHTS_H_
