// One row's block inside a panel's record (packed_layout.h), written or read.
// For packing, unpacking and the scalar path.
#ifndef CONCLAVE_KERNELS_BLOCK_RECORD_H_
#define CONCLAVE_KERNELS_BLOCK_RECORD_H_

#include <cstdint>

#include "kernels/block_codes.h"

namespace conclave::kernels {

class RecordRow {
 public:
  // `row` is the lane, 0..15.
  RecordRow(const BlockShape& shape, int64_t block_values, int64_t row)
      : shape_(shape), num_blocks_(block_values / 32), row_(row) {}

  void Write(const BlockCodes& block, uint8_t* record) const;
  void Read(const uint8_t* record, BlockCodes& block) const;

 private:
  int64_t HalfAt(int i) const;
  int64_t ByteAt(int i) const;
  int64_t CodesAt(int64_t block) const;

  BlockShape shape_;
  int64_t num_blocks_;  // of 32 values
  int64_t row_;
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_BLOCK_RECORD_H_
