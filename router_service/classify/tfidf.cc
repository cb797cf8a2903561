#include "router_service/classify/tfidf.h"

#include <cmath>

namespace conclave::router {

TfIdf::TfIdf(std::span<const NgramVector* const> samples, uint32_t min_count)
    : entries_(kNumBuckets) {
  std::vector<uint32_t> count(kNumBuckets, 0);
  for (const NgramVector* sample : samples) {
    for (uint32_t id : sample->ids) ++count[id];
  }
  const double total = 1.0 + static_cast<double>(samples.size());
  unknown_idf_ = static_cast<float>(1.0 + std::log(total));
  // In order of first occurrence, so that rows used together lie together.
  for (const NgramVector* sample : samples) {
    for (uint32_t id : sample->ids) {
      if (entries_[id].row >= 0 || count[id] < min_count) continue;
      entries_[id] = {
          .row = static_cast<int32_t>(num_rows_++),
          .idf = static_cast<float>(
              1.0 + std::log(total / (1.0 + count[id])))};
    }
  }
}

TfIdf TfIdf::Extended(std::span<const NgramVector> samples) const {
  TfIdf out = *this;
  if (out.entries_.empty()) out.entries_.resize(kNumBuckets);
  for (const NgramVector& sample : samples) {
    for (uint32_t id : sample.ids) {
      if (out.entries_[id].row >= 0) continue;
      out.entries_[id] = {.row = static_cast<int32_t>(out.num_rows_++),
                          .idf = unknown_idf_};
    }
  }
  return out;
}

RowVector TfIdf::Weigh(const NgramVector& vector) const {
  RowVector out;
  if (entries_.empty()) return out;
  out.rows.reserve(vector.ids.size());
  out.values.reserve(vector.ids.size());
  std::vector<uint8_t> is_word;
  is_word.reserve(vector.ids.size());
  double known[2] = {0, 0}, unknown[2] = {0, 0};
  constexpr size_t kAhead = 24;  // the table is larger than the caches
  for (size_t i = 0; i < vector.ids.size(); ++i) {
    if (i + kAhead < vector.ids.size()) {
      __builtin_prefetch(&entries_[vector.ids[i + kAhead]]);
    }
    const uint32_t id = vector.ids[i];
    const bool word = id >= kFirstWordBucket;
    const Entry entry = entries_[id];
    if (entry.row < 0) {
      const double value = double(vector.values[i]) * unknown_idf_;
      unknown[word] += value * value;
      continue;
    }
    const float value = vector.values[i] * entry.idf;
    known[word] += double(value) * value;
    out.rows.push_back(static_cast<uint32_t>(entry.row));
    out.values.push_back(value);
    is_word.push_back(word);
  }
  // Unknown n-grams do not shrink the known ones: half of a typo-ridden text
  // may be unknown and the rest still tells. `known` reports them instead.
  float scale[2];
  for (int half = 0; half < 2; ++half) {
    scale[half] = known[half] > 0
                      ? static_cast<float>(std::sqrt(0.5 / known[half]))
                      : 0;
  }
  for (size_t i = 0; i < out.values.size(); ++i) {
    out.values[i] *= scale[is_word[i]];
  }
  const double all = known[0] + known[1] + unknown[0] + unknown[1];
  out.known = all > 0 ? static_cast<float>((known[0] + known[1]) / all) : 0;
  return out;
}

}  // namespace conclave::router
