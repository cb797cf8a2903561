#include "kernels/block_record.h"

#include <cstring>

#include "kernels/packed_layout.h"

namespace conclave::kernels {

int64_t RecordRow::HalfAt(int i) const { return (i * kPanelRows + row_) * 2; }

int64_t RecordRow::ByteAt(int i) const {
  return kPanelRows * (2 * shape_.num_halves + i) + row_;
}

// Start of the 32 columns that hold column i.
int64_t RecordRow::CodesAt(int64_t i) const {
  return HeaderBytes(shape_) + i / 32 * CodeBytes(shape_);
}

RecordRow::Place RecordRow::LowPlace(int64_t i) const {
  const int64_t quad = i % 32 / 4;
  const int64_t in_quad = 4 * row_ + i % 4;
  if (shape_.low_bits == 8) return {CodesAt(i) + 64 * quad + in_quad, 0};
  return {CodesAt(i) + 64 * (quad / 2) + in_quad,
          static_cast<int>(4 * (quad % 2))};
}

RecordRow::Place RecordRow::HighPlace(int64_t i) const {
  const int64_t quad = i % 32 / 4;
  const int64_t start = CodesAt(i) + LowBytes(shape_) + 4 * row_ + i % 4;
  if (shape_.high_bits == 1) return {start, static_cast<int>(quad)};
  return {start + 64 * (quad / 4), static_cast<int>(2 * (quad % 4))};
}

void RecordRow::Write(const BlockCodes& block, uint8_t* record) const {
  for (int i = 0; i < shape_.num_halves; ++i) {
    std::memcpy(record + HalfAt(i), &block.halves[i], 2);
  }
  for (int i = 0; i < shape_.num_bytes; ++i) {
    record[ByteAt(i)] = block.bytes[i];
  }
  for (int64_t i = 0; i < block_values_; ++i) {
    const Place low = LowPlace(i);
    record[low.byte] = static_cast<uint8_t>(record[low.byte] |
                                            Low(block.codes[i]) << low.shift);
    if (shape_.high_bits == 0) continue;
    const Place high = HighPlace(i);
    record[high.byte] = static_cast<uint8_t>(
        record[high.byte] | (block.codes[i] >> 4) << high.shift);
  }
}

void RecordRow::Read(const uint8_t* record, BlockCodes& block) const {
  for (int i = 0; i < shape_.num_halves; ++i) {
    std::memcpy(&block.halves[i], record + HalfAt(i), 2);
  }
  for (int i = 0; i < shape_.num_bytes; ++i) {
    block.bytes[i] = record[ByteAt(i)];
  }
  const int high_mask = (1 << shape_.high_bits) - 1;
  for (int64_t i = 0; i < block_values_; ++i) {
    const Place low = LowPlace(i);
    int code = Low(record[low.byte] >> low.shift);
    if (shape_.high_bits != 0) {
      const Place high = HighPlace(i);
      code |= ((record[high.byte] >> high.shift) & high_mask) << 4;
    }
    block.codes[i] = static_cast<uint8_t>(code);
  }
}

}  // namespace conclave::kernels
