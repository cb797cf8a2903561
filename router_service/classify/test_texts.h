// Small worlds for tests: categories with their own words, and an encoder that
// knows nothing but words. Fakes, for tests alone.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_TEST_TEXTS_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_TEST_TEXTS_H_

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "router_service/classify/training_set.h"
#include "router_service/classify/vector_cache.h"
#include "router_service/embed/ngram.h"

namespace conclave::router {

// `count` texts of each of `num_categories` categories "c0", "c1", ...: six
// words each, of which about half belong to the category alone.
inline std::vector<LabelledText> MakeWorld(int num_categories, int count,
                                           uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<LabelledText> samples;
  for (int c = 0; c < num_categories; ++c) {
    for (int i = 0; i < count; ++i) {
      std::string text;
      for (int w = 0; w < 6; ++w) {
        const uint64_t word = random() % 12;
        text += random() % 2 == 0
                    ? "topic" + std::to_string(c) + "x" + std::to_string(word)
                    : "common" + std::to_string(word);
        text += ' ';
      }
      samples.push_back({.text = text, .category = "c" + std::to_string(c)});
    }
  }
  return samples;
}

// A vector of 512 values: signed counts of hashed n-grams.
inline absl::StatusOr<std::vector<float>> FakeEmbed(std::string_view text) {
  std::vector<float> vector(512, 0.0f);
  vector[0] = 1e-3f;  // never zero
  const NgramVector ngrams = ExtractNgrams(text);
  for (size_t i = 0; i < ngrams.ids.size(); ++i) {
    const uint32_t mixed = ngrams.ids[i] * 0x9e3779b1u;
    const float sign = (mixed >> 8) % 2 == 0 ? 1.0f : -1.0f;
    vector[mixed >> 23] += sign * ngrams.values[i];
  }
  return vector;
}

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_TEST_TEXTS_H_
