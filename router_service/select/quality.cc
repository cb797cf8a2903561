#include "router_service/select/quality.h"

#include <algorithm>
#include <cmath>

namespace conclave::router {

double PriorQuality(double claimed, Serves serves,
                    const QualityOptions& options) {
  const bool known = std::isfinite(claimed) && claimed > 0;
  const double quality =
      known ? std::min(claimed, 1.0) : options.unknown_quality;
  switch (serves) {
    case Serves::kCategory:
      return quality;
    case Serves::kGeneral:
      return quality * (1 - options.foreign_loss / 2);
    case Serves::kNeither:
      break;
  }
  return quality * (1 - options.foreign_loss);
}

double ShrunkQuality(const Observed& observed, double prior, double kappa) {
  const bool usable = std::isfinite(observed.count) && observed.count > 0 &&
                      std::isfinite(observed.score_sum);
  if (!usable) return prior;
  const double sum = std::clamp(observed.score_sum, 0.0, observed.count);
  return (sum + kappa * prior) / (observed.count + kappa);
}

}  // namespace conclave::router
