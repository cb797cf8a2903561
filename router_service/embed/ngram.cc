#define XXH_INLINE_ALL  // words are a few bytes: a call would cost as much
#include "router_service/embed/ngram.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <unordered_map>

#include "router_service/embed/normal_text.h"

namespace conclave::router {
namespace {

// 1 + ln n for the counts that occur.
const std::array<float, 64> kDampened = [] {
  std::array<float, 64> dampened{};
  for (size_t n = 1; n < dampened.size(); ++n) {
    dampened[n] = 1.0f + std::log(static_cast<float>(n));
  }
  return dampened;
}();

// The distinct ones of `ids`, in order of first occurrence, and how often each
// occurs.
//
// A hash table of at least four times as many slots, each the place of an id in
// the output. Hashing all n-grams first and counting them afterwards lets both
// loops run without waiting for each other's cache misses.
void CountDistinct(std::span<const uint32_t> ids,
                   std::vector<uint32_t>* distinct,
                   std::vector<uint32_t>* counts) {
  // Never more slots than buckets: each id then has its own.
  const size_t wanted = std::bit_ceil(std::max<size_t>(4 * ids.size(), 64));
  const bool dense = wanted >= kNumBuckets;
  const size_t size = dense ? kNumBuckets : wanted;
  // Kept for the next text unless it was a long one: new memory would cost as
  // much as the counting.
  constexpr size_t kKept = size_t{1} << 15;
  thread_local std::vector<uint32_t> kept(kKept);
  std::vector<uint32_t> large(size > kKept ? size : 0);
  uint32_t* const slots = size > kKept ? large.data() : kept.data();
  if (size <= kKept) std::fill_n(slots, size, 0u);
  const auto mask = static_cast<uint32_t>(size - 1);
  // The multiplier spreads ids, whose upper half marks words.
  const auto home = [&](uint32_t id) {
    return dense ? id : ((id * 0x9e3779b1u) >> 7) & mask;
  };

  // Place 0 is that of free slots. It holds whatever is looked for, so that the
  // search ends at one comparison: whether an id is new cannot be predicted.
  const size_t most = std::min<size_t>(ids.size(), kNumBuckets) + 1;
  std::vector<uint32_t> id_at(most), count_at(most);
  uint32_t last = 0;
  for (const uint32_t id : ids) {
    id_at[0] = id;
    uint32_t at = home(id);
    while (id_at[slots[at]] != id) at = (at + 1) & mask;
    const bool is_new = slots[at] == 0;
    last += is_new;
    const uint32_t place = is_new ? last : slots[at];
    slots[at] = place;
    id_at[place] = id;
    ++count_at[place];
  }
  distinct->assign(id_at.begin() + 1, id_at.begin() + 1 + last);
  counts->assign(count_at.begin() + 1, count_at.begin() + 1 + last);
}

uint32_t CharBucket(uint64_t hash) {
  return static_cast<uint32_t>(hash >> 45);  // 19 bits
}
uint32_t WordBucket(uint64_t hash) {
  return kFirstWordBucket + static_cast<uint32_t>(hash >> 45);
}

// Up to eight bytes, as a number, none of the upper ones zero: distinct
// n-grams have distinct keys, since no text holds a zero byte.
uint64_t HashOfKey(uint64_t key) {
  key *= 0x9e3779b97f4a7c15ull;
  key ^= key >> 32;
  return key * 0xd6e8feb86659fd93ull;
}

uint64_t LoadBytes(const char* bytes, size_t count) {
  uint64_t key = 0;
  std::memcpy(&key, bytes, count);
  return key;
}

uint64_t HashOfCharacters(const char* bytes, size_t count) {
  return count <= 8 ? HashOfKey(LoadBytes(bytes, count))
                    : XXH3_64bits(bytes, count);
}

// One byte a character: the three n-grams that begin at a byte are in one load.
void AddByteNgrams(std::string_view text, std::vector<uint32_t>* ids) {
  const size_t whole = text.size() < 8 ? 0 : text.size() - 7;
  ids->resize(3 * whole);
  uint32_t* out = ids->data();
  for (size_t i = 0; i < whole; ++i, out += 3) {
    const uint64_t eight = LoadBytes(text.data() + i, 8);
    out[0] = CharBucket(HashOfKey(eight & 0xffffff));
    out[1] = CharBucket(HashOfKey(eight & 0xffffffff));
    out[2] = CharBucket(HashOfKey(eight & 0xffffffffff));
  }
  for (size_t i = whole; i + 3 <= text.size(); ++i) {
    for (size_t n = 3; n <= 5 && i + n <= text.size(); ++n) {
      ids->push_back(CharBucket(HashOfCharacters(text.data() + i, n)));
    }
  }
}

void AddCharacterNgrams(const NormalText& text, std::vector<uint32_t>* ids) {
  const size_t num_chars = text.starts.size() - 1;
  if (num_chars == text.bytes.size()) return AddByteNgrams(text.bytes, ids);
  const char* bytes = text.bytes.data();
  for (size_t i = 0; i + 3 <= num_chars; ++i) {
    const uint32_t* const start = text.starts.data() + i;
    for (size_t n = 3; n <= 5 && i + n <= num_chars; ++n) {
      ids->push_back(
          CharBucket(HashOfCharacters(bytes + start[0], start[n] - start[0])));
    }
  }
}

void AddWordNgrams(const NormalText& text, std::vector<uint32_t>* ids) {
  uint64_t previous = 0;
  bool has_previous = false;
  for (const NormalText::Span& span : text.word_spans) {
    const uint64_t hash =
        XXH3_64bits(text.bytes.data() + span.begin, span.end - span.begin);
    ids->push_back(WordBucket(hash));
    if (has_previous) {
      // Order matters: "not good" is not "good not".
      const uint64_t pair =
          (std::rotl(previous, 29) ^ hash) * 0x9fb21c651e98df25ull;
      ids->push_back(WordBucket(pair));
    }
    previous = hash;
    has_previous = true;
  }
}

}  // namespace

NgramVector ExtractNgrams(std::string_view text) {
  const NormalText normal = Normalize(text);
  NgramVector vector;
  vector.word_count = static_cast<uint32_t>(normal.word_spans.size());
  std::vector<uint32_t> ids, counts;
  ids.reserve(3 * normal.starts.size() + 2 * normal.word_spans.size());
  AddCharacterNgrams(normal, &ids);
  AddWordNgrams(normal, &ids);
  CountDistinct(ids, &vector.ids, &counts);
  vector.values.reserve(counts.size());
  for (const uint32_t count : counts) {
    vector.values.push_back(count < kDampened.size()
                                ? kDampened[count]
                                : 1.0f + std::log(static_cast<float>(count)));
  }
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
