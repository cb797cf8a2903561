#include "router_service/classify/byte_rows.h"

#include <xmmintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/check.h"
#include "router_service/classify/add_rows.h"
#include "router_service/classify/row_ops.h"

namespace conclave::router {
namespace {

constexpr size_t kLine = 64;  // bytes

// Rows summed together, over block after block of their columns, while the next
// rows are on their way: 3 KB of 150 categories.
constexpr size_t kGroup = 16;

AddRowsFn BestAddRows() {
  return __builtin_cpu_supports("avx2") ? AddRowsAvx2 : AddRowsBaseline;
}

// What values are multiplied by so that each fits 16 bits and no sum of
// products with bytes leaves 32.
float Precision(std::span<const float> values) {
  float most = 0;
  double all = 0;
  for (const float value : values) {
    most = std::max(most, std::abs(value));
    all += static_cast<double>(std::abs(value));
  }
  if (!(all > 0)) return 0;
  // Rounding adds at most a half to each of them.
  const double room = 0x7fffffff / 127 - static_cast<double>(values.size());
  CHECK(room > 0, "{} values", values.size());
  return static_cast<float>(std::min(32767.0 / most, room / all));
}

}  // namespace

ByteRows::ByteRows(std::span<const float> weights, uint32_t num_rows,
                   size_t stride, uint32_t num_categories)
    : num_categories_(num_categories),
      columns_((num_categories + kRowBlock - 1) / kRowBlock * kRowBlock),
      stride_(columns_ <= kLine ? std::bit_ceil(columns_)
                                : (columns_ + kLine - 1) / kLine * kLine),
      scale_(num_categories, 0.0f),
      bytes_(num_rows * stride_) {
  CHECK(weights.size() >= (size_t{num_rows} + 1) * stride, "{} weights",
        weights.size());
  const float* const bias = weights.data() + num_rows * stride;
  bias_.assign(bias, bias + num_categories);
  for (size_t row = 0; row < num_rows; ++row) {
    for (size_t c = 0; c < num_categories; ++c) {
      scale_[c] = std::max(scale_[c], std::abs(weights[row * stride + c]));
    }
  }
  std::vector<float> inverse;
  for (float& scale : scale_) {
    inverse.push_back(scale > 0 ? 127 / scale : 0);
    scale /= 127;
  }
  for (size_t row = 0; row < num_rows; ++row) {
    for (size_t c = 0; c < num_categories; ++c) {
      const float byte = std::nearbyint(weights[row * stride + c] * inverse[c]);
      bytes_[row * stride_ + c] =
          static_cast<int8_t>(std::clamp(byte, -127.0f, 127.0f));
    }
  }
}

void ByteRows::Score(const RowVector& x, std::vector<float>* margins) const {
  margins->assign(bias_.begin(), bias_.end());
  const float precision = Precision(x.values);
  if (precision == 0 || num_categories_ == 0) return;
  static const AddRowsFn kAddRows = BestAddRows();
  std::vector<int32_t> sums(columns_, 0);
  const size_t count = x.rows.size();
  const auto row = [&](size_t j) {
    return bytes_.data() + x.rows[j] * stride_;
  };
  const auto prefetch = [&](size_t begin, size_t end) {
    for (size_t j = begin; j < std::min(end, count); ++j) {
      PrefetchRow(row(j), columns_);
    }
  };
  const size_t num_blocks = columns_ / kRowBlock;
  prefetch(0, kGroup);
  for (size_t begin = 0; begin < count; begin += kGroup) {
    std::array<const int8_t*, kGroup> rows;
    std::array<int16_t, kGroup> values;
    const size_t here = std::min(kGroup, count - begin);
    for (size_t j = 0; j < here; ++j) {
      rows[j] = row(begin + j);
      values[j] = static_cast<int16_t>(
          _mm_cvtss_si32(_mm_set_ss(x.values[begin + j] * precision)));
    }
    if (here % 2 == 1) {
      rows[here] = rows[here - 1];
      values[here] = 0;
    }
    const size_t next = begin + kGroup;
    for (size_t block = 0; block < num_blocks; ++block) {
      // A few rows at a time: all at once would wait for one another.
      prefetch(next + kGroup * block / num_blocks,
               next + kGroup * (block + 1) / num_blocks);
      kAddRows(rows.data(), values.data(), (here + 1) / 2, block * kRowBlock,
               sums.data() + block * kRowBlock);
    }
  }
  for (size_t c = 0; c < num_categories_; ++c) {
    (*margins)[c] += static_cast<float>(sums[c]) / precision * scale_[c];
  }
}

}  // namespace conclave::router
