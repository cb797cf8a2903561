// One row's block inside a panel's record (packed_layout.h), read or written
// value by value. For packing, unpacking and the scalar path.
#ifndef CONCLAVE_KERNELS_BLOCK_RECORD_H_
#define CONCLAVE_KERNELS_BLOCK_RECORD_H_

#include <cstdint>

#include "kernels/block_codes.h"

namespace conclave::kernels {

class RecordRow {
 public:
  // `row` is the lane, 0..15.
  RecordRow(const BlockShape& shape, int64_t block_values, int64_t row)
      : shape_(shape), block_values_(block_values), row_(row) {}

  // Into zeroed bytes.
  void Write(const BlockCodes& block, uint8_t* record) const;
  void Read(const uint8_t* record, BlockCodes& block) const;

 private:
  struct Place {
    int64_t byte;
    int shift;
  };

  int Low(int code) const {
    return shape_.low_bits == 4 ? code & 0x0f : code & 0xff;
  }
  int64_t HalfAt(int i) const;
  int64_t ByteAt(int i) const;
  int64_t CodesAt(int64_t i) const;
  Place LowPlace(int64_t i) const;
  Place HighPlace(int64_t i) const;

  BlockShape shape_;
  int64_t block_values_;
  int64_t row_;
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_BLOCK_RECORD_H_
