#include "router_service/select/selection.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

namespace conclave::router {
namespace {

constexpr std::string_view kGeneralCategory = "general";

bool ServesCategory(const ExpertView& expert, std::string_view category) {
  return std::find(expert.categories.begin(), expert.categories.end(),
                   category) != expert.categories.end();
}

Serves HowServes(const ExpertView& expert, std::string_view category) {
  if (ServesCategory(expert, category)) return Serves::kCategory;
  if (ServesCategory(expert, kGeneralCategory)) return Serves::kGeneral;
  return Serves::kNeither;
}

double ExpectedQuality(const ExpertView& expert, const Posterior& posterior,
                       const QualityEstimates* estimates,
                       const QualityOptions& options) {
  double quality = 0;
  for (const auto& [category, probability] : posterior) {
    if (probability <= 0) continue;
    const double prior =
        PriorQuality(expert.quality, HowServes(expert, category), options);
    const Observed observed =
        estimates == nullptr
            ? Observed{}
            : estimates->Get(category, expert.name, expert.version);
    quality += probability * ShrunkQuality(observed, prior, options.kappa);
  }
  return quality;
}

struct Ranked {
  Choice choice;
  Serves serves;
  bool over_limit;
};

// Group, then limit, then score, then name.
bool Before(const Ranked& a, const Ranked& b) {
  if (a.serves != b.serves) return a.serves < b.serves;
  if (a.over_limit != b.over_limit) return b.over_limit;
  if (a.choice.score != b.choice.score) return a.choice.score > b.choice.score;
  return a.choice.expert < b.choice.expert;
}

std::string WhyCandidate(const Ranked& ranked, std::string_view wanted,
                         const SelectOptions& options) {
  std::string why;
  switch (ranked.serves) {
    case Serves::kCategory:
      why = fmt::format("serves {}", wanted);
      break;
    case Serves::kGeneral:
      why = "serves general";
      break;
    case Serves::kNeither:
      why = fmt::format("serves neither {} nor general", wanted);
      break;
  }
  if (ranked.over_limit) {
    why += fmt::format("; cost {:.4g} is over the limit of {:.4g}",
                       ranked.choice.cost, options.max_cost);
  }
  return why;
}

std::string WhyFirst(std::span<const Ranked> group, size_t chosen,
                     std::string_view wanted, bool explored) {
  const std::string& name = group[chosen].choice.expert;
  if (explored) {
    return fmt::format("{} was drawn to explore, {} scores best", name,
                       group[0].choice.expert);
  }
  std::string why;
  if (group[0].serves == Serves::kGeneral) {
    why = fmt::format("nobody serves {}, so general does: ", wanted);
  } else if (group[0].serves == Serves::kNeither) {
    why = wanted == kGeneralCategory
              ? std::string("nobody serves general: ")
              : fmt::format("nobody serves {} or general: ", wanted);
  }
  if (group.size() == 1) {
    why += group[0].serves == Serves::kNeither
               ? fmt::format("{} is the only expert", name)
               : fmt::format("only {} serves it", name);
  } else if (group[0].choice.score == group[1].choice.score &&
             group[0].over_limit == group[1].over_limit) {
    why += fmt::format("{} and {} score the same, the lower name goes first",
                       name, group[1].choice.expert);
  } else {
    why += fmt::format("{} scores best of {} ({:.2f}; {} {:.2f})", name,
                       group.size(), group[0].choice.score,
                       group[1].choice.expert, group[1].choice.score);
  }
  if (group[chosen].over_limit) why += "; nobody is within the cost limit";
  return why;
}

}  // namespace

Selection Select(std::span<const ExpertView> available,
                 const Posterior& posterior, std::string_view wanted,
                 const QualityEstimates* estimates,
                 const SelectOptions& options,
                 const std::function<double()>& random) {
  std::vector<Serves> serves;
  for (const ExpertView& expert : available) {
    serves.push_back(HowServes(expert, wanted));
  }
  const bool served = std::any_of(serves.begin(), serves.end(), [](Serves how) {
    return how != Serves::kNeither;
  });
  std::vector<Ranked> ranked;
  for (size_t i = 0; i < available.size(); ++i) {
    // Who cannot be chosen is not weighed: with 150 experts for 150 categories
    // that is all but two, and would take half a millisecond.
    if (served && serves[i] == Serves::kNeither) continue;
    const ExpertView& expert = available[i];
    Ranked one;
    one.serves = serves[i];
    one.choice.expert = std::string(expert.name);
    one.choice.quality =
        ExpectedQuality(expert, posterior, estimates, options.quality);
    one.choice.cost =
        std::isfinite(expert.cost) && expert.cost > 0 ? expert.cost : 0;
    one.choice.score =
        one.choice.quality - options.cost_weight * one.choice.cost;
    one.over_limit = options.max_cost > 0 && one.choice.cost > options.max_cost;
    ranked.push_back(std::move(one));
  }
  std::sort(ranked.begin(), ranked.end(), Before);
  Selection selection;
  if (ranked.empty()) return selection;

  // The group that may be chosen: like the first in service and in limit.
  const auto like_first = [&](const Ranked& one) {
    return one.serves == ranked[0].serves &&
           one.over_limit == ranked[0].over_limit;
  };
  const size_t group =
      std::find_if_not(ranked.begin(), ranked.end(), like_first) -
      ranked.begin();
  const double epsilon =
      group > 1 ? std::clamp(options.epsilon, 0.0, 1.0) : 0.0;
  const double share = epsilon / static_cast<double>(group);
  size_t chosen = 0;
  if (epsilon > 0) {
    const double drawn = random();
    // [0, share) explores the first, [share, 2 share) the second ...
    if (drawn < epsilon) {
      chosen = std::min(static_cast<size_t>(drawn / share), group - 1);
    }
  }
  for (size_t i = 0; i < group; ++i) {
    ranked[i].choice.propensity = (i == 0 ? 1 - epsilon : 0) + share;
  }
  selection.why =
      WhyFirst(std::span(ranked).first(group), chosen, wanted, chosen != 0);
  std::rotate(ranked.begin(), ranked.begin() + chosen,
              ranked.begin() + chosen + 1);
  for (Ranked& one : ranked) {
    if (selection.candidates.size() == options.max_candidates) break;
    one.choice.why = WhyCandidate(one, wanted, options);
    selection.candidates.push_back(std::move(one.choice));
  }
  return selection;
}

}  // namespace conclave::router
