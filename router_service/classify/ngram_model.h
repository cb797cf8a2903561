// The fast tier: n-grams -> a margin for every category. Trained in
// milliseconds on tens of samples, in seconds on 15,000.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_NGRAM_MODEL_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_NGRAM_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "router_service/classify/linear_svm.h"
#include "router_service/classify/tfidf.h"

namespace conclave::router {

// What a tier says of one text.
struct TierScores {
  std::vector<float> scores;  // [num_categories], higher is likelier
  float familiarity = 0;      // higher: more like the samples; any scale
};

class NgramModel {
 public:
  NgramModel() = default;
  // Trains on the samples named by `use`. `alpha` as in LinearSvm::Train.
  static NgramModel Fit(std::span<const NgramVector> samples,
                        std::span<const uint32_t> labels,
                        std::span<const uint32_t> use, uint32_t num_categories,
                        int max_epochs, std::vector<float>* alpha);

  // A provisional model, quicker than Fit: categories that `base` has keep
  // their margins, those in `changed` get new ones.
  //   base_of[c]   category c's number in `base`, or kNone
  //   changed      numbers of the new or changed categories
  //   labels[i]    sample i's place in `changed`, or kNone: a stranger to all
  //   weights      [changed], as SvmOptions::positive_weight
  static NgramModel Extended(const NgramModel& base,
                             std::vector<uint32_t> base_of,
                             std::vector<uint32_t> changed,
                             std::span<const NgramVector> samples,
                             std::span<const uint32_t> labels,
                             std::vector<float> weights);

  // familiarity = best margin + 2 * known share. Measured on CLINC150's
  // out-of-scope queries (AUROC): best margin alone .939, known share alone
  // .891, this .960; other weights (.5, 1) were worse.
  TierScores Score(const NgramVector& text) const;

 private:
  // Margins of `changed_` by svm_, of others by base_; see Extended.
  void Overlay(const RowVector& x, std::vector<float>* scores) const;

  TfIdf tfidf_;
  std::shared_ptr<const LinearSvm> svm_;
  std::shared_ptr<const LinearSvm> base_;  // null: svm_ scores everything
  uint32_t base_rows_ = 0;
  std::vector<uint32_t> base_of_;
  std::vector<uint32_t> changed_;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_NGRAM_MODEL_H_
