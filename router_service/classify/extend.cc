// Classifier::Extend: a provisional classifier while the full one is trained.
#include <algorithm>
#include <numeric>
#include <set>
#include <string_view>
#include <utility>

#include "router_service/classify/classifier.h"

namespace conclave::router {
namespace {

using Key = std::pair<std::string_view, std::string_view>;

// (category, text) of every sample, ascending.
std::vector<Key> KeysOf(const TrainingSet& set) {
  std::vector<Key> keys;
  keys.reserve(set.texts.size());
  for (size_t i = 0; i < set.texts.size(); ++i) {
    keys.emplace_back(set.categories[set.labels[i]], set.texts[i]);
  }
  return keys;
}

// Categories, by number in `set`, that have samples which `previous` has not.
std::vector<uint32_t> Changed(const TrainingSet& previous,
                              const TrainingSet& set) {
  const std::vector<Key> old_keys = KeysOf(previous), keys = KeysOf(set);
  std::vector<Key> added;
  std::set_difference(keys.begin(), keys.end(), old_keys.begin(),
                      old_keys.end(), std::back_inserter(added));
  std::set<std::string_view> names;
  for (const Key& key : added) names.insert(key.first);
  std::vector<uint32_t> changed;
  for (uint32_t c = 0; c < set.categories.size(); ++c) {
    if (names.contains(set.categories[c])) changed.push_back(c);
  }
  return changed;
}

}  // namespace

std::shared_ptr<const Classifier> Classifier::Extend(
    const Classifier& previous, std::shared_ptr<const TrainingSet> set) {
  if (previous.provisional_ || previous.set_->texts.empty()) return nullptr;
  const TrainingSet& old_set = *previous.set_;
  std::vector<uint32_t> base_of;
  for (const std::string& category : set->categories) {
    const auto found = std::lower_bound(old_set.categories.begin(),
                                        old_set.categories.end(), category);
    const bool known = found != old_set.categories.end() && *found == category;
    base_of.push_back(
        known ? static_cast<uint32_t>(found - old_set.categories.begin())
              : LinearSvm::kNone);
  }
  std::vector<uint32_t> changed = Changed(old_set, *set);

  // All samples of the changed categories, and others evenly spread.
  const size_t stride = set->texts.size() / kExtendOthers + 1;
  std::vector<NgramVector> samples;
  std::vector<uint32_t> labels;
  for (size_t i = 0; i < set->texts.size(); ++i) {
    const auto found =
        std::lower_bound(changed.begin(), changed.end(), set->labels[i]);
    const bool own = found != changed.end() && *found == set->labels[i];
    if (!own && i % stride != 0) continue;
    samples.push_back(ExtractNgrams(set->texts[i]));
    labels.push_back(own ? static_cast<uint32_t>(found - changed.begin())
                         : LinearSvm::kNone);
  }

  const std::vector<uint32_t> all = [&] {
    std::vector<uint32_t> numbers(set->texts.size());
    std::iota(numbers.begin(), numbers.end(), 0u);
    return numbers;
  }();
  const std::vector<float> rarity = RarityWeights(
      set->labels, all, static_cast<uint32_t>(set->categories.size()));
  std::vector<float> weights;
  for (uint32_t c : changed) weights.push_back(rarity[c]);

  auto fast = std::make_shared<Fast>();
  fast->calibration = previous.fast_->calibration;
  fast->model = NgramModel::Extended(previous.fast_->model, std::move(base_of),
                                     std::move(changed), samples, labels,
                                     std::move(weights));
  auto out = std::make_shared<Classifier>();
  out->counts_.assign(set->categories.size(), 0);
  for (uint32_t label : set->labels) ++out->counts_[label];
  out->fast_ = std::move(fast);
  out->set_ = std::move(set);
  out->provisional_ = true;
  return out;
}

}  // namespace conclave::router
