#include "router_service/classify/tfidf.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace conclave::router {

TfIdf::TfIdf(std::span<const NgramVector* const> samples, uint32_t min_count)
    : row_of_(kNumBuckets, -1) {
  std::vector<uint32_t> count(kNumBuckets, 0);
  for (const NgramVector* sample : samples) {
    for (uint32_t id : sample->ids) ++count[id];
  }
  const double total = 1.0 + static_cast<double>(samples.size());
  idf_[0] = static_cast<float>(1.0 + std::log(total));
  // In order of first occurrence, so that rows used together lie together.
  for (const NgramVector* sample : samples) {
    for (uint32_t id : sample->ids) {
      if (row_of_[id] >= 0 || count[id] < min_count) continue;
      row_of_[id] = static_cast<int32_t>(num_rows_++);
      idf_.push_back(
          static_cast<float>(1.0 + std::log(total / (1.0 + count[id]))));
    }
  }
}

TfIdf TfIdf::Extended(std::span<const NgramVector> samples) const {
  TfIdf out = *this;
  if (out.row_of_.empty()) out.row_of_.assign(kNumBuckets, -1);
  for (const NgramVector& sample : samples) {
    for (uint32_t id : sample.ids) {
      if (out.row_of_[id] >= 0) continue;
      out.row_of_[id] = static_cast<int32_t>(out.num_rows_++);
      out.idf_.push_back(out.idf_[0]);
    }
  }
  return out;
}

RowVector TfIdf::Weigh(const NgramVector& vector) const {
  RowVector out;
  if (row_of_.empty()) return out;
  const size_t count = vector.ids.size();
  // One more: what is unknown is written behind the end.
  out.rows.resize(count + 1);
  out.values.resize(count + 1);
  const auto first_word = static_cast<size_t>(
      std::partition_point(vector.ids.begin(), vector.ids.end(),
                           [](uint32_t id) { return id < kFirstWordBucket; }) -
      vector.ids.begin());
  size_t num_rows = 0;
  double all_known = 0, all = 0;
  for (const auto& [begin, end] :
       {std::pair(size_t{0}, first_word), std::pair(first_word, count)}) {
    const size_t first_row = num_rows;
    double known = 0, unknown = 0;
    constexpr size_t kAhead = 24;  // the table is larger than the caches
    for (size_t i = begin; i < end; ++i) {
      if (i + kAhead < count) {
        __builtin_prefetch(&row_of_[vector.ids[i + kAhead]]);
      }
      // Which n-grams are known cannot be predicted: no branch.
      const int32_t row = row_of_[vector.ids[i]];
      const bool is_known = row >= 0;
      const float value = vector.values[i] * idf_[static_cast<size_t>(row + 1)];
      const double square = double(value) * value;
      known += is_known ? square : 0;
      unknown += is_known ? 0 : square;
      out.rows[num_rows] = static_cast<uint32_t>(row);
      out.values[num_rows] = value;
      num_rows += is_known;
    }
    // Unknown n-grams do not shrink the known ones: half of a typo-ridden text
    // may be unknown and the rest still tells. `known` reports them instead.
    const float scale =
        known > 0 ? static_cast<float>(std::sqrt(0.5 / known)) : 0;
    for (size_t i = first_row; i < num_rows; ++i) out.values[i] *= scale;
    all_known += known;
    all += known + unknown;
  }
  out.rows.resize(num_rows);
  out.values.resize(num_rows);
  out.known = all > 0 ? static_cast<float>(all_known / all) : 0;
  return out;
}

}  // namespace conclave::router
