// From scores to probabilities that mean what they say, and from familiarity
// to novelty, both learnt from samples that were held out of training.
//
//   p(c | x, in scope) = softmax(a * scores)[c]
//       a minimises the held-out negative log likelihood plus a prior worth
//       kPriorWeight samples, so that five perfect judgements do not make
//       every answer certain
//   novelty(x) = share of held-out samples more familiar than x, mixed with a
//       logistic prior worth kPriorWeight samples (a conformal p-value: of
//       in-scope texts, one in twenty has novelty above .95)
//   p(out of scope | x): novelty is uniform in scope and, out of scope, has
//       density k * u^(k - 1); Bayes' rule with kOutOfScopePrior. k is 100,
//       less when there are too few samples to tell .99 from .95.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_CALIBRATION_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_CALIBRATION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "router_service/classify/ngram_model.h"

namespace conclave::router {

// A sample scored by a model that was not trained on it.
struct Judged {
  TierScores scores;
  uint32_t label = 0;
  // False when no other sample of its category was left to train on: such a
  // sample says nothing about the scores' scale.
  bool learnable = true;
};

// Where the fit starts and what it is drawn towards.
struct CalibrationPrior {
  double sharpness = 4;    // a
  double familiarity = 1;  // at which novelty is one half
  double familiarity_scale = 0.4;
};

class Calibration {
 public:
  explicit Calibration(const CalibrationPrior& prior = {}) : prior_(prior) {}
  static Calibration Fit(std::span<const Judged> judged,
                         const CalibrationPrior& prior);

  // Sums to 1; [scores]. Empty for no scores.
  std::vector<double> Posterior(std::span<const float> scores) const;
  // 0 (nothing held out was more familiar) .. 1 (everything was).
  double Novelty(double familiarity) const;
  double OutOfScope(double novelty) const;

  double sharpness() const { return sharpness_; }
  size_t num_judged() const { return familiarities_.size(); }
  // Of the held-out samples, in scope: share that was right, and expected
  // calibration error over ten bins. 0 when nothing was judged.
  double accuracy() const { return accuracy_; }
  double calibration_error() const { return calibration_error_; }

 private:
  CalibrationPrior prior_;
  double sharpness_ = 4;
  double accuracy_ = 0;
  double calibration_error_ = 0;
  std::vector<float> familiarities_;  // ascending
};

// Expected calibration error: |confidence - accuracy| over ten equal bins of
// confidence, weighted by their share.
class CalibrationError {
 public:
  void Add(double confidence, bool right);
  double Value() const;

 private:
  struct Bin {
    double confidence = 0;
    double right = 0;
    double count = 0;
  };
  Bin bins_[10];
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_CALIBRATION_H_
