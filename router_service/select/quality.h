// Expected quality of an expert on a category: what its owner claims, corrected
// by what was observed, as far as enough was observed.
//
//   Q[c, e] = (sum of scores + kappa * prior) / (count + kappa)
//
// kappa observations weigh as much as the prior: three lucky scores must not
// outrank a hundred ordinary ones.
#ifndef CONCLAVE_ROUTER_SERVICE_SELECT_QUALITY_H_
#define CONCLAVE_ROUTER_SERVICE_SELECT_QUALITY_H_

#include <cstdint>
#include <string_view>

namespace conclave::router {

// Scores (0..1) of answers, from feedback.
struct Observed {
  double score_sum = 0;
  double count = 0;
};

// Where observations come from: the journal, or a table in a test.
// Threads: Get may run concurrently; it must not block.
class QualityEstimates {
 public:
  virtual ~QualityEstimates() = default;
  // Of this version of the expert: what an older version earned says little.
  virtual Observed Get(std::string_view category, std::string_view expert,
                       uint64_t expert_version) const = 0;
};

struct QualityOptions {
  double kappa = 10;
  // Priors where the owner claims nothing.
  double unknown_quality = 0.7;
  // An expert outside the category is expected to lose this much of its
  // quality; one that serves `general` half of that.
  double foreign_loss = 0.5;
};

enum class Serves : uint8_t { kCategory, kGeneral, kNeither };

// `claimed` <= 0 or not a number means unknown; above 1 counts as 1.
double PriorQuality(double claimed, Serves serves,
                    const QualityOptions& options);
// Always 0..1, whatever was observed.
double ShrunkQuality(const Observed& observed, double prior, double kappa);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_SELECT_QUALITY_H_
