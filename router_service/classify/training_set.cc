#include "router_service/classify/training_set.h"

#include <algorithm>
#include <span>
#include <tuple>

#include "base/hash.h"

namespace conclave::router {
namespace {

// Length first, so that no two sets of strings hash the same bytes.
void Update(Xxh3Stream* stream, const std::string& text) {
  const uint64_t size = text.size();
  stream->Update(std::as_bytes(std::span(&size, 1)));
  stream->Update(std::as_bytes(std::span(text)));
}

}  // namespace

TrainingSet MakeTrainingSet(std::vector<LabelledText> samples) {
  std::erase_if(samples, [](const LabelledText& sample) {
    return sample.text.empty() || sample.category.empty();
  });
  std::sort(samples.begin(), samples.end(),
            [](const LabelledText& a, const LabelledText& b) {
              return std::tie(a.category, a.text) <
                     std::tie(b.category, b.text);
            });
  samples.erase(std::unique(samples.begin(), samples.end()), samples.end());

  TrainingSet set;
  Xxh3Stream stream;
  for (LabelledText& sample : samples) {
    Update(&stream, sample.category);
    Update(&stream, sample.text);
    if (set.categories.empty() || set.categories.back() != sample.category) {
      set.categories.push_back(sample.category);
    }
    set.labels.push_back(static_cast<uint32_t>(set.categories.size() - 1));
    set.texts.push_back(std::move(sample.text));
  }
  set.version = stream.Digest().Hex().substr(0, 16);
  return set;
}

Folds MakeFolds(const TrainingSet& set) {
  Folds folds;
  const size_t size = set.texts.size();
  folds.num_folds = size < 200 ? 10 : 5;
  folds.num_judged = size < 1000 ? folds.num_folds : 1;
  folds.of_sample.resize(size);
  // One running number over all categories: dealing each category from fold 0
  // would leave the last folds empty when categories are small.
  for (size_t i = 0; i < size; ++i) {
    folds.of_sample[i] = static_cast<uint32_t>(i % folds.num_folds);
  }
  return folds;
}

std::vector<uint32_t> SamplesOfFold(const Folds& folds, uint32_t fold,
                                    bool judged) {
  std::vector<uint32_t> samples;
  for (uint32_t i = 0; i < folds.of_sample.size(); ++i) {
    if ((folds.of_sample[i] == fold) == judged) samples.push_back(i);
  }
  return samples;
}

}  // namespace conclave::router
