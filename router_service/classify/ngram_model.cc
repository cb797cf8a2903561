#include "router_service/classify/ngram_model.h"

#include <algorithm>

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
  model.svm_ = LinearSvm::Train(rows, labels, use, model.tfidf_.num_rows(),
                                num_categories, options, alpha);
  return model;
}

TierScores NgramModel::Score(const NgramVector& text) const {
  const RowVector x = tfidf_.Weigh(text);
  TierScores out;
  svm_.Score(x, &out.scores);
  const float best =
      out.scores.empty()
          ? 0.0f
          : *std::max_element(out.scores.begin(), out.scores.end());
  out.familiarity = best + 2 * x.known;
  return out;
}

}  // namespace conclave::router
