// Hashed n-grams of a text: words (1 and 2 in a row) and characters (3 to 5 in
// a row, spaces and punctuation included). The whole text counts, whatever its
// length: a prompt of 8K tokens takes milliseconds, so nothing is truncated.
//
// Threads: pure functions.
#ifndef CONCLAVE_ROUTER_SERVICE_EMBED_NGRAM_H_
#define CONCLAVE_ROUTER_SERVICE_EMBED_NGRAM_H_

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace conclave::router {

// 2^20 buckets: characters in the lower half, words in the upper. The training
// part of CLINC150 has 110 thousand distinct n-grams; one in ten shares its
// bucket then, which costs no measurable accuracy.
inline constexpr uint32_t kNumBuckets = uint32_t{1} << 20;
inline constexpr uint32_t kFirstWordBucket = kNumBuckets / 2;

// Term frequencies, dampened: values[i] = 1 + ln(count of ids[i]). The ids are
// distinct and stand in order of first occurrence, which is cheaper than
// sorting and as deterministic; characters before words.
struct NgramVector {
  std::vector<uint32_t> ids;  // < kNumBuckets
  std::vector<float> values;  // >= 1
  uint32_t word_count = 0;    // words in the text, repeats included
};

NgramVector ExtractNgrams(std::string_view text);

// Cosine of two vectors over all buckets; 0 when either is empty. For tests
// and tools: the classifier works on weighted, indexed rows instead.
double Cosine(const NgramVector& a, const NgramVector& b);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_EMBED_NGRAM_H_
