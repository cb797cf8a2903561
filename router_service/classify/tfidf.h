// N-gram vectors weighted by how telling each n-gram is, over the vocabulary
// of the samples. Immutable once built.
//
//   idf(f) = 1 + ln((1 + samples) / (1 + samples with f))
//   words and characters are scaled to unit length apart, so that a long word
//   list does not drown the characters; the two halves together have length 1
//   when every n-gram is known.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_TFIDF_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_TFIDF_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/huge_array.h"
#include "router_service/embed/ngram.h"

namespace conclave::router {

// A vector over the vocabulary's rows. Rows are distinct.
struct RowVector {
  std::vector<uint32_t> rows;
  std::vector<float> values;
  // Share of the text's weight whose n-grams some sample has, 0..1.
  float known = 0;
};

class TfIdf {
 public:
  TfIdf() = default;  // no rows: every text maps to nothing
  // Drops n-grams of fewer than `min_count` samples.
  TfIdf(std::span<const NgramVector* const> samples, uint32_t min_count);

  // The same with rows added for n-grams of `samples` that had none; what had a
  // row keeps row and weight.
  TfIdf Extended(std::span<const NgramVector> samples) const;

  RowVector Weigh(const NgramVector& vector) const;
  uint32_t num_rows() const { return num_rows_; }

 private:
  // Apart, so that the table that is read at random is small.
  HugeArray<int32_t> row_of_;     // [kNumBuckets]; -1: unknown. Or empty
  std::vector<float> idf_ = {1};  // [1 + num_rows_]; the first: the unknown's
  uint32_t num_rows_ = 0;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_TFIDF_H_
