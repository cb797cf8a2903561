// Who answers: quality less weighted cost, under limits.
//
//   quality(e) = sum over categories of p(c) * Q[c, e]
//   score(e)   = quality(e) - cost_weight * cost(e)
//
// 1. Only experts that are available take part.
// 2. Those that serve the wanted category stand first; those of `general`
//    follow, for when the first fail; the others take part only when nobody
//    serves either.
// 3. Within a group: higher score first, equal scores by the lower name.
// 4. The first is chosen; with exploration, every expert of its group is chosen
//    with probability epsilon / group size besides. Propensities are exact.
#ifndef CONCLAVE_ROUTER_SERVICE_SELECT_SELECTION_H_
#define CONCLAVE_ROUTER_SERVICE_SELECT_SELECTION_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "router_service/select/quality.h"

namespace conclave::router {

// What selection needs to know of an expert.
struct ExpertView {
  std::string_view name;
  uint64_t version = 0;
  std::span<const std::string> categories;
  double quality = 0;  // claimed, 0..1; 0: unknown
  double cost = 0;     // of a request; 0: unknown
};

// How probable a category is. A posterior holds each category once, by name.
struct CategoryShare {
  std::string_view category;
  double probability = 0;
};
using Posterior = std::vector<CategoryShare>;

struct SelectOptions {
  QualityOptions quality;
  // Quality given up for one unit of cost. Small: a price decides between
  // experts of like quality, it does not replace a specialist by a stranger.
  double cost_weight = 0.01;
  double max_cost = 0;  // of a request; 0: no limit
  double epsilon = 0;   // 0..1: share of requests that explore
  size_t max_candidates = 16;
};

struct Choice {
  std::string expert;
  double quality = 0;
  double cost = 0;
  double score = 0;
  double propensity = 0;
  std::string why;
};

struct Selection {
  std::vector<Choice> candidates;  // the chosen one first; empty: no expert
  // Why the first is first, to follow "category code, 0.97 sure; ".
  std::string why;
};

// `wanted`: the category decided on. `estimates` may be null. `random` gives
// uniform numbers in [0, 1); it is asked once, and only when epsilon is above
// 0.
Selection Select(std::span<const ExpertView> available,
                 const Posterior& posterior, std::string_view wanted,
                 const QualityEstimates* estimates,
                 const SelectOptions& options,
                 const std::function<double()>& random);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_SELECT_SELECTION_H_
