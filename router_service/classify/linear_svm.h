// One linear classifier per category against the rest, over sparse rows: L2
// regularised squared hinge, solved in the dual by coordinate descent (Hsieh et
// al., ICML 2008; what LIBLINEAR does). All categories advance together: one
// pass over a sample's rows scores every category at once, which is what makes
// 15,000 samples x 150 categories a matter of seconds on one core.
//
// Deterministic: same samples, same seed, same bits.
#ifndef CONCLAVE_ROUTER_SERVICE_CLASSIFY_LINEAR_SVM_H_
#define CONCLAVE_ROUTER_SERVICE_CLASSIFY_LINEAR_SVM_H_

#include <cstdint>
#include <span>
#include <vector>

#include "router_service/classify/byte_rows.h"
#include "router_service/classify/tfidf.h"

namespace conclave::router {

struct SvmOptions {
  double c = 1;             // cost of a violated margin
  int max_epochs = 12;      // accuracy on CLINC150 is flat from 8 on
  double tolerance = 0.05;  // largest projected gradient at which to stop
  uint64_t seed = 1;        // order of the samples within an epoch
  // [categories] or empty (all 1): how much more a category's own samples cost
  // than strangers do; see RarityWeights.
  std::vector<float> positive_weight;
};

// The mean number of samples of a category over each category's own, within
// 1..8: 20 samples then stand their ground against a neighbour's 100. Equal
// numbers give 1. kNone labels are not counted.
std::vector<float> RarityWeights(std::span<const uint32_t> labels,
                                 std::span<const uint32_t> use,
                                 uint32_t num_categories);

class LinearSvm {
 public:
  // The label of a sample that belongs to none of the categories.
  static constexpr uint32_t kNone = UINT32_MAX;

  LinearSvm() = default;
  // labels[i] in [0, num_categories), or kNone, belongs to samples[i]; only
  // samples named by `use` are trained on. Rows are < num_rows. `alpha` may be
  // null. Else it holds the dual variables, in and out:
  // [samples][PaddedCategories], zeros or what an earlier run over some of the
  // same samples left, which then is the start: fewer epochs are needed.
  static LinearSvm Train(std::span<const RowVector> samples,
                         std::span<const uint32_t> labels,
                         std::span<const uint32_t> use, uint32_t num_rows,
                         uint32_t num_categories, const SvmOptions& options,
                         std::vector<float>* alpha);

  // Floats in a row of `num_categories`.
  static size_t PaddedCategories(uint32_t num_categories) {
    return (size_t{num_categories} + 7) / 8 * 8;
  }

  // Margins, [num_categories]: above 0 means "more like it than not".
  void Score(const RowVector& x, std::vector<float>* margins) const {
    served_.Score(x, margins);
  }

  uint32_t num_categories() const { return served_.num_categories(); }
  int epochs() const { return epochs_; }

 private:
  int epochs_ = 0;
  ByteRows served_;
};

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_CLASSIFY_LINEAR_SVM_H_
