// A classifier's weights as they are served: one byte each, with one scale for
// each category. Reading rows is what scoring waits for, and a row of 150
// categories is three cache lines instead of bfloat16's five.
//
// Sums are of integers, so their bits depend on no order and no processor.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_BYTE_ROWS_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_BYTE_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/huge_array.h"
#include "router_service/classify/tfidf.h"

namespace conclave::router {

// Immutable once built.
class ByteRows {
 public:
  ByteRows() = default;
  //   weights  [num_rows + 1][stride] fp32; the last row is the bias, which
  //            stays as it is. Columns from num_categories on are ignored.
  // A weight moves by at most half of its category's largest / 127.
  ByteRows(std::span<const float> weights, uint32_t num_rows, size_t stride,
           uint32_t num_categories);

  // margins[c] = bias[c] + sum over j of x.values[j] * weights[x.rows[j]][c],
  // with values rounded to 16 bits. [num_categories]
  void Score(const RowVector& x, std::vector<float>* margins) const;

  uint32_t num_categories() const { return num_categories_; }

 private:
  uint32_t num_categories_ = 0;
  size_t columns_ = 0;  // num_categories_ in whole blocks of 16
  size_t stride_ = 0;   // bytes from row to row
  std::vector<float> bias_;
  std::vector<float> scale_;
  HugeArray<int8_t> bytes_;  // [num_rows][stride_]
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_BYTE_ROWS_H_
