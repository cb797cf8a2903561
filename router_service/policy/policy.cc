#include "router_service/policy/policy.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/hash.h"
#include "router_service/policy/request_text.h"
#include "router_service/policy/snapshot_view.h"

namespace conclave::router {
namespace {

std::string VersionOf(const PolicyOptions& options) {
  const SelectOptions& select = options.select;
  const std::string text = fmt::format(
      "1 {} {} {} {} {} {} {} {} {} {} {} {} {}", options.unsure_below,
      options.sure_enough, options.novel_enough, options.few_samples,
      options.max_encoder_bytes, options.min_encoder_weight, select.cost_weight,
      select.max_cost, select.epsilon, select.max_candidates,
      select.quality.kappa, select.quality.unknown_quality,
      select.quality.foreign_loss);
  return fmt::format("1-{:016x}", Xxh3_64(text));
}

bool Serves(const ExpertView& expert, std::string_view category) {
  return std::find(expert.categories.begin(), expert.categories.end(),
                   category) != expert.categories.end();
}

bool AnyServes(std::span<const ExpertView> experts, std::string_view category) {
  return std::any_of(experts.begin(), experts.end(), [&](const auto& expert) {
    return Serves(expert, category);
  });
}

// The two most probable categories; equal ones by the lower name.
std::vector<CategoryShare> Best(const Posterior& posterior) {
  std::vector<CategoryShare> best(std::min<size_t>(2, posterior.size()));
  std::partial_sort_copy(posterior.begin(), posterior.end(), best.begin(),
                         best.end(), [](const auto& a, const auto& b) {
                           if (a.probability != b.probability) {
                             return a.probability > b.probability;
                           }
                           return a.category < b.category;
                         });
  return best;
}

double ProbabilityOf(const Posterior& posterior, std::string_view category) {
  for (const CategoryShare& share : posterior) {
    if (share.category == category) return share.probability;
  }
  CHECK(false, "{} is not in the posterior", category);
}

bool IsKnown(const Classifier& classifier, std::string_view category) {
  return std::binary_search(classifier.categories().begin(),
                            classifier.categories().end(), category);
}

// What the reading says of every category that has samples or an expert.
// Views into `classifier` and `snapshot`.
Posterior PosteriorOf(const Reading& reading, const Classifier& classifier,
                      const registry::Snapshot& snapshot) {
  std::vector<std::string_view> unknown = {kGeneralCategory};
  for (const auto& [name, expert] : snapshot.experts) {
    if (expert->state == registry::ExpertState::kGone) continue;
    unknown.insert(unknown.end(), expert->categories.begin(),
                   expert->categories.end());
  }
  std::erase_if(unknown, [&](std::string_view category) {
    return IsKnown(classifier, category);
  });
  std::sort(unknown.begin(), unknown.end());
  unknown.erase(std::unique(unknown.begin(), unknown.end()), unknown.end());

  Posterior posterior;
  for (const std::string_view category : unknown) {
    posterior.push_back({category, 0});
  }
  for (size_t c = 0; c < reading.posterior.size(); ++c) {
    posterior.push_back({classifier.categories()[c],
                         reading.posterior[c] * (1 - reading.out_of_scope)});
  }
  std::inplace_merge(posterior.begin(),
                     posterior.begin() + static_cast<ptrdiff_t>(unknown.size()),
                     posterior.end(),
                     [](const CategoryShare& a, const CategoryShare& b) {
                       return a.category < b.category;
                     });
  for (CategoryShare& share : posterior) {
    if (share.category != kGeneralCategory) continue;
    share.probability += reading.posterior.empty() ? 1 : reading.out_of_scope;
  }
  return posterior;
}

// "law has no samples" for what is served and cannot be recognised.
std::string WithoutSamples(const Classifier& classifier,
                           std::span<const ExpertView> available) {
  std::vector<std::string_view> missing;
  for (const ExpertView& expert : available) {
    for (const std::string& category : expert.categories) {
      if (category == kGeneralCategory) continue;
      if (!IsKnown(classifier, category)) missing.push_back(category);
    }
  }
  std::sort(missing.begin(), missing.end());
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  if (missing.empty()) return "";
  std::string names(missing[0]);
  for (size_t i = 1; i < std::min<size_t>(3, missing.size()); ++i) {
    names += fmt::format(", {}", missing[i]);
  }
  if (missing.size() > 3) {
    names += fmt::format(" and {} more", missing.size() - 3);
  }
  return fmt::format("{} {} no samples and cannot be recognised", names,
                     missing.size() == 1 ? "has" : "have");
}

void AddNote(std::string* why, std::string_view note) {
  if (note.empty()) return;
  if (!why->empty()) *why += "; ";
  *why += note;
}

}  // namespace

struct RoutingPolicy::Query {
  std::string_view request_id;
  std::string_view model;
  std::vector<TextPart> parts;
  bool tokens_only = false;
};

struct RoutingPolicy::Verdict {
  std::shared_ptr<const Classifier> classifier;
  Tier tier = Tier::kNgram;
  Posterior posterior;  // views into `classifier` and the snapshot
  double novelty = 0;
  std::string category;
  std::string why;    // "category code, 0.97 sure"
  std::string notes;  // what else people should know
};

RoutingPolicy::RoutingPolicy(PolicyOptions options,
                             PolicyDependencies dependencies)
    : options_(std::move(options)),
      dependencies_(std::move(dependencies)),
      version_(VersionOf(options_)),
      live_(dependencies_.embed) {
  CHECK(dependencies_.clock != nullptr);
  CHECK(options_.select.epsilon <= 0 || dependencies_.random != nullptr,
        "exploration needs a source of randomness");
}

void RoutingPolicy::OnSnapshot(
    std::shared_ptr<const registry::Snapshot> snapshot) {
  const uint64_t fingerprint = SamplesFingerprint(*snapshot);
  if (fingerprint_.exchange(fingerprint) == fingerprint) return;
  live_.Update([snapshot = std::move(snapshot)] {
    return std::make_shared<const TrainingSet>(SamplesOf(*snapshot));
  });
}

bool RoutingPolicy::WaitForFastTier(absl::Duration timeout) const {
  return live_.WaitForFast(timeout);
}

bool RoutingPolicy::WaitForAllTiers(absl::Duration timeout) const {
  return live_.WaitForAll(timeout);
}

absl::StatusOr<Routing> RoutingPolicy::Decide(
    const v1::GenerateRequest& request,
    const registry::Snapshot& snapshot) const {
  Query query;
  query.request_id = request.request_id();
  query.model = request.model();
  if (request.has_chat()) query.parts = PartsOfChat(request.chat());
  if (request.has_text()) query.parts = PartsOfText(request.text());
  query.tokens_only = request.has_tokens() && request.tokens().ids_size() > 0;
  return Decide(query, snapshot);
}

absl::StatusOr<Routing> RoutingPolicy::Decide(
    const v1::RouteRequest& request, const registry::Snapshot& snapshot) const {
  Query query;
  query.request_id = request.request_id();
  query.model = request.model();
  if (request.has_chat()) query.parts = PartsOfChat(request.chat());
  if (request.has_text()) query.parts = PartsOfText(request.text());
  return Decide(query, snapshot);
}

absl::StatusOr<Routing> RoutingPolicy::Decide(
    const Query& query, const registry::Snapshot& snapshot) const {
  const int64_t start = dependencies_.clock->MonotonicNanos();
  Routing routing;
  v1::Decision& decision = routing.decision;
  if (!query.model.empty() && query.model != "auto") {
    ASSIGN_OR_RETURN(const std::string expert,
                     ExpertNamed(snapshot, query.model));
    routing = Bypass(query, snapshot, expert);
  } else {
    if (snapshot.experts.empty()) {
      // The caller's, as an unknown name is: no later try helps by itself.
      return NotFound(
          "no expert is registered; add one: conclave expert add NAME --model "
          "MODEL --category general");
    }
    const std::vector<ExpertView> available = AvailableExperts(snapshot);
    if (available.empty()) {
      return Unavailable("none of the {} registered experts is serving",
                         snapshot.experts.size());
    }
    if (query.parts.empty() && !query.tokens_only) {
      return InvalidArgument("the prompt has no text to route by");
    }
    const Verdict verdict = Judge(query, snapshot, available);
    const Selection selection =
        Select(available, verdict.posterior, verdict.category,
               dependencies_.estimates, options_.select, dependencies_.random);
    for (const Choice& choice : selection.candidates) {
      auto* candidate = decision.add_candidates();
      candidate->set_expert(choice.expert);
      candidate->set_quality(choice.quality);
      candidate->set_cost(choice.cost);
      candidate->set_score(choice.score);
      candidate->set_propensity(choice.propensity);
      candidate->set_why(choice.why);
      routing.candidates.push_back(choice.expert);
    }
    decision.set_category(verdict.category);
    decision.set_confidence(ProbabilityOf(verdict.posterior, verdict.category));
    decision.set_novelty(verdict.novelty);
    for (const auto& [category, probability] : verdict.posterior) {
      (*decision.mutable_posterior())[std::string(category)] = probability;
    }
    decision.set_tier(verdict.tier == Tier::kNgram ? "ngram" : "encoder");
    (*decision.mutable_versions())["classifier"] =
        verdict.classifier->version();
    std::string why = verdict.why;
    AddNote(&why, selection.why);
    AddNote(&why, verdict.notes);
    decision.set_why(std::move(why));
  }
  decision.set_request_id(std::string(query.request_id));
  decision.set_expert(routing.candidates.front());
  (*decision.mutable_versions())["registry"] =
      std::to_string(snapshot.revision);
  (*decision.mutable_versions())["policy"] = version_;
  decision.set_router_us((dependencies_.clock->MonotonicNanos() - start) /
                         1000);
  return routing;
}

Routing RoutingPolicy::Bypass(const Query& query,
                              const registry::Snapshot& snapshot,
                              const std::string& expert) const {
  const registry::ExpertSpec& spec = *snapshot.experts.at(expert);
  Routing routing;
  routing.candidates = {expert};
  auto* candidate = routing.decision.add_candidates();
  candidate->set_expert(expert);
  candidate->set_quality(
      PriorQuality(spec.quality, Serves::kCategory, options_.select.quality));
  candidate->set_cost(spec.cost);
  candidate->set_score(candidate->quality() -
                       options_.select.cost_weight * spec.cost);
  candidate->set_propensity(1);
  candidate->set_why("named by the request");
  routing.decision.set_tier("bypass");
  routing.decision.set_why(
      query.model == expert ? fmt::format("the request names {}", expert)
                            : fmt::format("the request names {}, which is {}",
                                          query.model, expert));
  return routing;
}

absl::StatusOr<std::vector<float>> RoutingPolicy::Embed(
    const Query& query) const {
  std::vector<float> sum;
  for (const TextPart& part : query.parts) {
    if (part.weight < options_.min_encoder_weight) continue;
    ASSIGN_OR_RETURN(
        std::vector<float> raw,
        dependencies_.embed(EndsOfText(part.text, options_.max_encoder_bytes)));
    ASSIGN_OR_RETURN(const std::vector<float> vector,
                     Normalised(std::move(raw)));
    if (sum.empty()) sum.assign(vector.size(), 0.0f);
    if (sum.size() != vector.size()) {
      return FailedPrecondition("the encoder gave {} values, then {}",
                                sum.size(), vector.size());
    }
    for (size_t i = 0; i < sum.size(); ++i) {
      sum[i] += static_cast<float>(part.weight) * vector[i];
    }
  }
  return Normalised(std::move(sum));
}

Reading RoutingPolicy::Read(const Classifier& classifier, const Query& query,
                            std::string* note) const {
  Reading fast = classifier.ReadFast(query.parts);
  if (query.parts.empty()) return fast;
  if (!classifier.has_encoder()) return fast;
  const auto top =
      std::max_element(fast.posterior.begin(), fast.posterior.end()) -
      fast.posterior.begin();
  const bool sure = fast.posterior[top] >= options_.sure_enough &&
                    fast.novelty <= options_.novel_enough &&
                    classifier.num_samples(static_cast<uint32_t>(top)) >=
                        options_.few_samples;
  if (sure) return fast;
  const absl::StatusOr<std::vector<float>> vector = Embed(query);
  if (!vector.ok()) {
    *note =
        fmt::format("the encoder did not answer ({}), n-grams alone decided",
                    CodeName(vector.status().code()));
    return fast;
  }
  if (vector->size() != classifier.encoder_dim()) {
    *note = "the encoder has changed, n-grams alone decided";
    return fast;
  }
  return classifier.ReadBoth(fast, *vector);
}

RoutingPolicy::Verdict RoutingPolicy::Judge(
    const Query& query, const registry::Snapshot& snapshot,
    std::span<const ExpertView> available) const {
  Verdict verdict;
  verdict.classifier = live_.current();
  const Classifier& classifier = *verdict.classifier;
  const Reading reading = Read(classifier, query, &verdict.notes);
  verdict.tier = reading.tier;
  verdict.novelty = reading.novelty;

  verdict.posterior = PosteriorOf(reading, classifier, snapshot);
  const std::vector<CategoryShare> best = Best(verdict.posterior);
  const bool general_served = AnyServes(available, kGeneralCategory);
  verdict.category = std::string(best[0].category);
  if (query.tokens_only) {
    verdict.category = kGeneralCategory;
    verdict.why = "the prompt is token ids, which are not read: general";
  } else if (reading.posterior.empty()) {
    verdict.category = kGeneralCategory;
    verdict.why = "no samples to recognise categories by: general";
  } else if (best[0].probability < options_.unsure_below && general_served) {
    verdict.category = kGeneralCategory;
    verdict.why =
        fmt::format("unsure ({} {:.2f}, {} {:.2f}): general", best[0].category,
                    best[0].probability, best[1].category, best[1].probability);
  } else if (verdict.category == kGeneralCategory &&
             reading.out_of_scope > 0.5) {
    verdict.why = fmt::format(
        "like nothing registered (novelty {:.2f}): "
        "general",
        reading.novelty);
  } else if (best.size() > 1 && best[0].probability == best[1].probability) {
    verdict.why = fmt::format(
        "category {}, {:.2f} sure, as is {}: the lower name goes first",
        best[0].category, best[0].probability, best[1].category);
  } else {
    verdict.why = fmt::format("category {}, {:.2f} sure", best[0].category,
                              best[0].probability);
  }
  AddNote(&verdict.notes, WithoutSamples(classifier, available));
  return verdict;
}

}  // namespace conclave::router
