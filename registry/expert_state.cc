#include "registry/expert_state.h"

#include <algorithm>
#include <set>
#include <string_view>

#include "registry/limits.h"

namespace conclave::registry {
namespace {

// Versions that some worker holds.
std::set<std::string_view> HeldVersions(const Snapshot& state) {
  std::set<std::string_view> held;
  for (const auto& [name, worker] : state.workers) {
    held.insert(worker.models.begin(), worker.models.end());
  }
  return held;
}

bool CanAnswer(const Snapshot& state, const std::set<std::string_view>& held,
               const ExpertSpec& expert) {
  const ExpertSpec* answers = &expert;
  for (int depth = 0; !answers->base.empty(); ++depth) {
    const auto base = state.experts.find(answers->base);
    if (base == state.experts.end() || depth == kMaxBaseDepth) return false;
    answers = base->second.get();
  }
  if (!answers->endpoint.url.empty()) return true;
  const auto model = state.models.find(answers->model);
  if (model == state.models.end()) return false;
  const std::string& version = model->second.version;
  if (answers->worker.empty()) return held.contains(version);
  const auto worker = state.workers.find(answers->worker);
  return worker != state.workers.end() &&
         std::ranges::find(worker->second.models, version) !=
             worker->second.models.end();
}

}  // namespace

std::vector<std::string> SettleStates(Snapshot& state) {
  const std::set<std::string_view> held = HeldVersions(state);
  std::vector<std::string> changed;
  for (auto& [name, expert] : state.experts) {
    if (expert->state != ExpertState::kJoining &&
        expert->state != ExpertState::kServing) {
      continue;
    }
    const ExpertState settled = CanAnswer(state, held, *expert)
                                    ? ExpertState::kServing
                                    : ExpertState::kJoining;
    if (settled == expert->state) continue;
    ExpertSpec copy = *expert;
    copy.state = settled;
    expert = std::make_shared<const ExpertSpec>(std::move(copy));
    changed.push_back(name);
  }
  return changed;
}

}  // namespace conclave::registry
