#include "kernels/block_record.h"

#include <cstring>

#include "kernels/packed_layout.h"

namespace conclave::kernels {
namespace {

// The row's four bytes of each plane lie 64 apart; `at` is the first.

void WriteLow(const uint8_t* codes, int low_bits, uint8_t* at) {
  if (low_bits == 8) {
    for (int q = 0; q < 8; ++q) std::memcpy(at + 64 * q, codes + 4 * q, 4);
    return;
  }
  for (int i = 0; i < 4; ++i) {
    for (int c = 0; c < 4; ++c) {
      at[64 * i + c] = static_cast<uint8_t>((codes[8 * i + c] & 0x0f) |
                                            codes[8 * i + 4 + c] << 4);
    }
  }
}

void ReadLow(const uint8_t* at, int low_bits, uint8_t* codes) {
  if (low_bits == 8) {
    for (int q = 0; q < 8; ++q) std::memcpy(codes + 4 * q, at + 64 * q, 4);
    return;
  }
  for (int i = 0; i < 4; ++i) {
    for (int c = 0; c < 4; ++c) {
      codes[8 * i + c] = at[64 * i + c] & 0x0f;
      codes[8 * i + 4 + c] = at[64 * i + c] >> 4;
    }
  }
}

// A byte holds the high bits of 8 / high_bits K-quads.
void WriteHigh(const uint8_t* codes, int high_bits, uint8_t* at) {
  const int quads = 8 / high_bits;
  for (int plane = 0; plane < high_bits; ++plane) {
    for (int c = 0; c < 4; ++c) {
      int byte = 0;
      for (int q = 0; q < quads; ++q) {
        byte |= (codes[4 * (plane * quads + q) + c] >> 4) << (high_bits * q);
      }
      at[64 * plane + c] = static_cast<uint8_t>(byte);
    }
  }
}

void ReadHigh(const uint8_t* at, int high_bits, uint8_t* codes) {
  const int quads = 8 / high_bits;
  const int mask = (1 << high_bits) - 1;
  for (int plane = 0; plane < high_bits; ++plane) {
    for (int c = 0; c < 4; ++c) {
      for (int q = 0; q < quads; ++q) {
        const int high = (at[64 * plane + c] >> (high_bits * q)) & mask;
        uint8_t& code = codes[4 * (plane * quads + q) + c];
        code = static_cast<uint8_t>(code | high << 4);
      }
    }
  }
}

}  // namespace

int64_t RecordRow::HalfAt(int i) const { return (i * kPanelRows + row_) * 2; }

int64_t RecordRow::ByteAt(int i) const {
  return kPanelRows * (2 * shape_.num_halves + i) + row_;
}

int64_t RecordRow::CodesAt(int64_t block) const {
  return HeaderBytes(shape_) + block * CodeBytes(shape_) + 4 * row_;
}

void RecordRow::Write(const BlockCodes& block, uint8_t* record) const {
  for (int i = 0; i < shape_.num_halves; ++i) {
    std::memcpy(record + HalfAt(i), &block.halves[i], 2);
  }
  for (int i = 0; i < shape_.num_bytes; ++i) {
    record[ByteAt(i)] = block.bytes[i];
  }
  for (int64_t j = 0; j < num_blocks_; ++j) {
    uint8_t* at = record + CodesAt(j);
    WriteLow(block.codes + 32 * j, shape_.low_bits, at);
    if (shape_.high_bits != 0) {
      WriteHigh(block.codes + 32 * j, shape_.high_bits, at + LowBytes(shape_));
    }
  }
}

void RecordRow::Read(const uint8_t* record, BlockCodes& block) const {
  for (int i = 0; i < shape_.num_halves; ++i) {
    std::memcpy(&block.halves[i], record + HalfAt(i), 2);
  }
  for (int i = 0; i < shape_.num_bytes; ++i) {
    block.bytes[i] = record[ByteAt(i)];
  }
  for (int64_t j = 0; j < num_blocks_; ++j) {
    const uint8_t* at = record + CodesAt(j);
    ReadLow(at, shape_.low_bits, block.codes + 32 * j);
    if (shape_.high_bits != 0) {
      ReadHigh(at + LowBytes(shape_), shape_.high_bits, block.codes + 32 * j);
    }
  }
}

}  // namespace conclave::kernels
