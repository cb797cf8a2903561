#include "router_service/classify/ngram_model.h"

#include <algorithm>

#include "base/check.h"

namespace conclave::router {

NgramModel NgramModel::Fit(std::span<const NgramVector> samples,
                           std::span<const uint32_t> labels,
                           std::span<const uint32_t> use,
                           uint32_t num_categories, int max_epochs,
                           std::vector<float>* alpha) {
  std::vector<const NgramVector*> used;
  used.reserve(use.size());
  for (uint32_t i : use) used.push_back(&samples[i]);
  NgramModel model;
  // With many samples an n-gram of a single one tells little and fills the
  // table: 97 thousand rows become 56 thousand on CLINC150, accuracy stays
  // (93.1 and 93.0 %). With few samples every n-gram is needed.
  model.tfidf_ = TfIdf(used, use.size() > 1000 ? 2 : 1);
  std::vector<RowVector> rows(samples.size());
  for (uint32_t i : use) rows[i] = model.tfidf_.Weigh(samples[i]);
  SvmOptions options;
  options.c = 2;  // CLINC150: 92.5 at 0.5, 92.9 at 1, 93.1 at 2
  options.max_epochs = max_epochs;
  options.positive_weight = RarityWeights(labels, use, num_categories);
  model.svm_ = std::make_shared<const LinearSvm>(
      LinearSvm::Train(rows, labels, use, model.tfidf_.num_rows(),
                       num_categories, options, alpha));
  return model;
}

NgramModel NgramModel::Extended(const NgramModel& base,
                                std::vector<uint32_t> base_of,
                                std::vector<uint32_t> changed,
                                std::span<const NgramVector> samples,
                                std::span<const uint32_t> labels,
                                std::vector<float> weights) {
  CHECK(base.base_ == nullptr, "extend a full model, not a provisional one");
  std::vector<NgramVector> own;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (labels[i] != LinearSvm::kNone) own.push_back(samples[i]);
  }
  NgramModel model;
  model.tfidf_ = base.tfidf_.Extended(own);
  model.base_ = base.svm_;
  model.base_rows_ = base.tfidf_.num_rows();
  std::vector<RowVector> rows;
  std::vector<uint32_t> use;
  for (const NgramVector& sample : samples) {
    use.push_back(static_cast<uint32_t>(rows.size()));
    rows.push_back(model.tfidf_.Weigh(sample));
  }
  SvmOptions options;
  options.c = 2;
  options.positive_weight = std::move(weights);
  model.svm_ = std::make_shared<const LinearSvm>(LinearSvm::Train(
      rows, labels, use, model.tfidf_.num_rows(),
      static_cast<uint32_t>(changed.size()), options, nullptr));
  model.base_of_ = std::move(base_of);
  model.changed_ = std::move(changed);
  return model;
}

void NgramModel::Overlay(const RowVector& x, std::vector<float>* scores) const {
  RowVector known;  // rows that the base has
  for (size_t i = 0; i < x.rows.size(); ++i) {
    if (x.rows[i] >= base_rows_) continue;
    known.rows.push_back(x.rows[i]);
    known.values.push_back(x.values[i]);
  }
  std::vector<float> of_base, of_changed;
  base_->Score(known, &of_base);
  svm_->Score(x, &of_changed);
  scores->assign(base_of_.size(), -1.0f);
  for (size_t c = 0; c < base_of_.size(); ++c) {
    if (base_of_[c] != LinearSvm::kNone) (*scores)[c] = of_base[base_of_[c]];
  }
  for (size_t k = 0; k < changed_.size(); ++k) {
    (*scores)[changed_[k]] = of_changed[k];
  }
}

TierScores NgramModel::Score(const NgramVector& text) const {
  const RowVector x = tfidf_.Weigh(text);
  TierScores out;
  if (base_ != nullptr) {
    Overlay(x, &out.scores);
  } else if (svm_ != nullptr) {
    svm_->Score(x, &out.scores);
  }
  const float best = out.scores.empty() ? 0.0f
                                        : *std::max_element(out.scores.begin(),
                                                            out.scores.end());
  out.familiarity = best + 2 * x.known;
  return out;
}

}  // namespace conclave::router
