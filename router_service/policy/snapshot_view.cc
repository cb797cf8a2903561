#include "router_service/policy/snapshot_view.h"

#include <optional>

#include "base/hash.h"
#include "base/names.h"

namespace conclave::router {
namespace {

using registry::ExpertSpec;
using registry::ExpertState;
using registry::Snapshot;

// Why an expert that is not serving takes no request.
std::string WhyNot(const ExpertSpec& expert) {
  if (expert.state == ExpertState::kDraining) return "is draining";
  if (expert.state == ExpertState::kGone) return "is gone";
  if (!expert.worker.empty()) {
    return fmt::format(
        "is joining: worker {} is not there now, or does not have model {}",
        expert.worker, expert.model);
  }
  if (expert.model.empty()) return "is joining: its base is";
  return fmt::format("is joining: no worker that has model {} is there now",
                     expert.model);
}

// OK, or why the expert cannot answer now.
absl::Status CheckAvailable(const Snapshot& snapshot, std::string_view expert) {
  ASSIGN_OR_RETURN(const PromptChain chain, ChainOf(snapshot, expert));
  // What is wrong deepest down is the reason for the rest.
  for (auto it = chain.experts.rbegin(); it != chain.experts.rend(); ++it) {
    const ExpertSpec& link = *snapshot.experts.at(*it);
    if (link.state == ExpertState::kServing) continue;
    return Unavailable("expert {} {}{}", link.name, WhyNot(link),
                       link.name == expert
                           ? std::string()
                           : fmt::format(", and {} is based on it", expert));
  }
  return absl::OkStatus();
}

}  // namespace

TrainingSet SamplesOf(const Snapshot& snapshot) {
  std::vector<LabelledText> samples;
  for (const auto& [name, expert] : snapshot.experts) {
    if (expert->state == ExpertState::kGone) continue;
    for (const registry::Sample& sample : expert->samples) {
      std::string category = sample.category;
      if (category.empty() && !expert->categories.empty()) {
        category = expert->categories.front();
      }
      samples.push_back({.text = sample.text, .category = std::move(category)});
    }
  }
  return MakeTrainingSet(std::move(samples));
}

uint64_t SamplesFingerprint(const Snapshot& snapshot) {
  uint64_t hash = 0;
  for (const auto& [name, expert] : snapshot.experts) {
    if (expert->samples.empty()) continue;
    // A state change raises the version and costs one comparison of samples.
    hash = Xxh3_64(name, hash + expert->version +
                             (expert->state == ExpertState::kGone ? 1 : 0));
    const auto created = static_cast<uint64_t>(expert->created_unix_ms);
    hash = Xxh3_64(std::to_string(created), hash + expert->samples.size());
  }
  return hash;
}

std::vector<ExpertView> AvailableExperts(const Snapshot& snapshot) {
  std::vector<ExpertView> views;
  for (const auto& [name, expert] : snapshot.experts) {
    if (expert->state != ExpertState::kServing) continue;
    if (!expert->base.empty() && !CheckAvailable(snapshot, name).ok()) {
      continue;
    }
    views.push_back({.name = name,
                     .version = expert->version,
                     .categories = expert->categories,
                     .quality = expert->quality,
                     .cost = expert->cost});
  }
  return views;
}

absl::StatusOr<PromptChain> ChainOf(const Snapshot& snapshot,
                                    std::string_view expert) {
  return ResolvePromptChain(
      expert, [&](std::string_view name) -> std::optional<PromptLink> {
        const auto found = snapshot.experts.find(std::string(name));
        if (found == snapshot.experts.end()) return std::nullopt;
        return PromptLink{.base = found->second->base,
                          .prompt = found->second->prompt};
      });
}

absl::StatusOr<std::string> ExpertNamed(const Snapshot& snapshot,
                                        std::string_view model) {
  std::string name(model);
  if (!snapshot.experts.contains(name)) {
    const auto alias = snapshot.aliases.find(name);
    if (alias != snapshot.aliases.end()) name = alias->second.expert;
  }
  if (snapshot.experts.contains(name)) {
    RETURN_IF_ERROR(CheckAvailable(snapshot, name));
    return name;
  }
  absl::Status unavailable;
  for (const auto& [expert_name, expert] : snapshot.experts) {
    if (expert->model != name || expert->model.empty()) continue;
    const absl::Status status = CheckAvailable(snapshot, expert_name);
    if (status.ok()) return expert_name;
    unavailable = status;
  }
  if (!unavailable.ok()) return unavailable;
  std::vector<std::string> known = {"auto"};
  for (const auto& [expert_name, expert] : snapshot.experts) {
    known.push_back(expert_name);
  }
  for (const auto& [alias, target] : snapshot.aliases) known.push_back(alias);
  for (const auto& [model_name, record] : snapshot.models) {
    known.push_back(model_name);
  }
  return NotFound("no expert, alias or model served here is called {}.{}",
                  model, DidYouMean(model, known));
}

}  // namespace conclave::router
