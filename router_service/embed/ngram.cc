#define XXH_INLINE_ALL  // keys are 3..20 bytes: a call would cost as much
#include "router_service/embed/ngram.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <unordered_map>

#include "router_service/embed/normal_text.h"

namespace conclave::router {
namespace {

// Counts ids. A table of at least twice the expected ids, never larger than one
// slot for every bucket; slot s holds 1 + the index of the id in the output.
class Counter {
 public:
  explicit Counter(size_t expected) {
    const size_t wanted = std::bit_ceil(std::max<size_t>(2 * expected, 64));
    dense_ = wanted >= kNumBuckets;
    slots_.resize(dense_ ? kNumBuckets : wanted);
    mask_ = static_cast<uint32_t>(slots_.size() - 1);
    out_.ids.reserve(std::min<size_t>(expected, kNumBuckets));
    counts_.reserve(out_.ids.capacity());
  }

  void Add(uint32_t id) {
    // The multiplier spreads ids, whose upper half marks words.
    uint32_t at = dense_ ? id : (id * 0x9e3779b1u >> 7) & mask_;
    while (slots_[at] != 0) {
      const uint32_t index = slots_[at] - 1;
      if (out_.ids[index] == id) {
        ++counts_[index];
        return;
      }
      at = (at + 1) & mask_;  // never in a dense table
    }
    out_.ids.push_back(id);
    counts_.push_back(1);
    slots_[at] = static_cast<uint32_t>(out_.ids.size());
  }

  NgramVector Finish() && {
    out_.values.resize(counts_.size());
    for (size_t i = 0; i < counts_.size(); ++i) {
      out_.values[i] =
          counts_[i] == 1 ? 1.0f : 1.0f + std::log(float(counts_[i]));
    }
    return std::move(out_);
  }

 private:
  bool dense_ = false;
  uint32_t mask_ = 0;
  std::vector<uint32_t> slots_;
  std::vector<uint32_t> counts_;
  NgramVector out_;
};

uint32_t CharBucket(uint64_t hash) {
  return static_cast<uint32_t>(hash >> 45);  // 19 bits
}
uint32_t WordBucket(uint64_t hash) {
  return kFirstWordBucket + static_cast<uint32_t>(hash >> 45);
}

void AddCharacterNgrams(const NormalText& text, Counter* counter) {
  const char* bytes = text.bytes.data();
  const size_t num_chars = text.starts.size() - 1;
  for (size_t i = 0; i + 3 <= num_chars; ++i) {
    const size_t longest = std::min<size_t>(5, num_chars - i);
    for (size_t n = 3; n <= longest; ++n) {
      const size_t length = text.starts[i + n] - text.starts[i];
      counter->Add(CharBucket(XXH3_64bits(bytes + text.starts[i], length)));
    }
  }
}

void AddWordNgrams(const NormalText& text, Counter* counter) {
  uint64_t previous = 0;
  bool has_previous = false;
  for (const NormalText::Span& span : text.word_spans) {
    const uint64_t hash =
        XXH3_64bits(text.bytes.data() + span.begin, span.end - span.begin);
    counter->Add(WordBucket(hash));
    if (has_previous) {
      // Order matters: "not good" is not "good not".
      const uint64_t pair = (std::rotl(previous, 29) ^ hash) *
                            0x9fb21c651e98df25ull;
      counter->Add(WordBucket(pair));
    }
    previous = hash;
    has_previous = true;
  }
}

}  // namespace

NgramVector ExtractNgrams(std::string_view text) {
  const NormalText normal = Normalize(text);
  Counter counter(3 * normal.starts.size() + 2 * normal.word_spans.size());
  AddCharacterNgrams(normal, &counter);
  AddWordNgrams(normal, &counter);
  NgramVector vector = std::move(counter).Finish();
  vector.word_count = static_cast<uint32_t>(normal.word_spans.size());
  return vector;
}

double Cosine(const NgramVector& a, const NgramVector& b) {
  std::unordered_map<uint32_t, double> of_a;
  double aa = 0, bb = 0, ab = 0;
  for (size_t i = 0; i < a.ids.size(); ++i) {
    of_a[a.ids[i]] = a.values[i];
    aa += double(a.values[i]) * a.values[i];
  }
  for (size_t i = 0; i < b.ids.size(); ++i) {
    bb += double(b.values[i]) * b.values[i];
    const auto found = of_a.find(b.ids[i]);
    if (found != of_a.end()) ab += found->second * b.values[i];
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 0;
}

}  // namespace conclave::router
