#include "registry/rules.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/names.h"
#include "registry/limits.h"
#include "registry/text.h"

namespace conclave::registry {
namespace {

template <typename Map>
std::vector<std::string> Keys(const Map& map) {
  std::vector<std::string> keys;
  for (const auto& [name, value] : map) keys.push_back(name);
  return keys;
}

absl::Status CheckEndpoint(const Endpoint& endpoint) {
  const std::string_view url = endpoint.url;
  std::string_view rest = url;
  if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
  } else {
    rest = "";
  }
  const bool plain = std::all_of(url.begin(), url.end(),
                                 [](char c) { return c > ' ' && c <= '~'; });
  if (rest.empty() || rest[0] == '/' || rest[0] == ':' || !plain ||
      url.size() > kMaxUrlBytes) {
    return InvalidArgument(
        "endpoint \"{}\" is not a URL of an OpenAI-compatible server: give "
        "http://HOST:PORT/v1 or https://HOST/v1, at most {} bytes",
        Shown(url), kMaxUrlBytes);
  }
  if (rest.substr(0, rest.find('/')).find('@') != std::string_view::npos) {
    return InvalidArgument(
        "endpoint holds a user or password: put the key into an environment "
        "variable and give the variable's name as api_key_env");
  }
  if (endpoint.remote_model.size() > kMaxRemoteModelBytes ||
      !IsText(endpoint.remote_model)) {
    return InvalidArgument(
        "endpoint.remote_model is longer than {} bytes or not UTF-8 text",
        kMaxRemoteModelBytes);
  }
  const std::string& variable = endpoint.api_key_env;
  const bool good_variable =
      variable.size() <= 128 &&
      std::all_of(variable.begin(), variable.end(),
                  [](char c) {
                    return c == '_' || (c >= 'A' && c <= 'Z') ||
                           (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
                  }) &&
      (variable.empty() || variable[0] < '0' || variable[0] > '9');
  if (!good_variable) {
    return InvalidArgument(
        "endpoint.api_key_env is not the name of an environment variable: "
        "use letters, digits and '_' (the name, never the key itself)");
  }
  return absl::OkStatus();
}

absl::Status CheckSource(const ExpertSpec& spec) {
  const int sources = int{!spec.model.empty()} +
                      int{!spec.endpoint.url.empty()} + int{!spec.base.empty()};
  if (sources != 1) {
    return InvalidArgument(
        "expert \"{}\" has {} of model, endpoint and base; give exactly one",
        spec.name, sources);
  }
  if (spec.endpoint.url.empty()) {
    if (spec.endpoint != Endpoint{}) {
      return InvalidArgument(
          "expert \"{}\" has endpoint fields but no endpoint.url", spec.name);
    }
  } else {
    RETURN_IF_ERROR(CheckEndpoint(spec.endpoint));
  }
  if (spec.base.empty() != spec.prompt.empty()) {
    return InvalidArgument(
        "expert \"{}\": base and prompt go together; {}", spec.name,
        spec.base.empty() ? "give the base that the prompt wraps"
                          : "give the prompt that makes it differ from its "
                            "base (for another name alone, set an alias)");
  }
  if (spec.prompt.size() > kMaxPromptBytes) {
    return InvalidArgument("prompt is {} bytes; the limit is {}",
                           spec.prompt.size(), kMaxPromptBytes);
  }
  if (!IsText(spec.prompt)) {
    return InvalidArgument("prompt is not UTF-8 text");
  }
  return absl::OkStatus();
}

absl::Status CheckSamples(const ExpertSpec& spec) {
  if (spec.samples.size() > kMaxSamples) {
    return InvalidArgument("expert \"{}\" has {} samples; the limit is {}",
                           spec.name, spec.samples.size(), kMaxSamples);
  }
  size_t bytes = spec.prompt.size();
  for (size_t i = 0; i < spec.samples.size(); ++i) {
    const Sample& sample = spec.samples[i];
    if (sample.text.empty() || sample.text.size() > kMaxSampleBytes ||
        !IsText(sample.text)) {
      return InvalidArgument(
          "sample {} is {} bytes; a sample is 1 to {} bytes of UTF-8 text",
          i + 1, sample.text.size(), kMaxSampleBytes);
    }
    if (!sample.category.empty() &&
        std::find(spec.categories.begin(), spec.categories.end(),
                  sample.category) == spec.categories.end()) {
      return InvalidArgument(
          "sample {} is of category \"{}\", which expert \"{}\" does not "
          "serve; add the category to the expert or drop the sample",
          i + 1, Shown(sample.category), spec.name);
    }
    bytes += sample.text.size() + sample.category.size();
  }
  if (bytes > kMaxExpertBytes) {
    return InvalidArgument(
        "expert \"{}\" has {} bytes of samples and prompt; the limit is {}",
        spec.name, bytes, kMaxExpertBytes);
  }
  return absl::OkStatus();
}

bool Serves(const ExpertSpec& expert, std::string_view category) {
  return std::find(expert.categories.begin(), expert.categories.end(),
                   category) != expert.categories.end();
}

absl::Status CheckBase(const Snapshot& state, const ExpertSpec& spec) {
  std::string base = spec.base;
  for (int depth = 1; !base.empty(); ++depth) {
    const auto found = state.experts.find(base);
    if (found == state.experts.end()) {
      return NotFound(
          "base \"{}\" of expert \"{}\" is not registered; add it first: "
          "conclave expert add {} ...{}",
          Shown(base), spec.name, Shown(base),
          DidYouMean(base, Keys(state.experts)));
    }
    if (depth > kMaxBaseDepth) {
      return InvalidArgument(
          "expert \"{}\" stands on more than {} bases; base it on one nearer "
          "to the model",
          spec.name, kMaxBaseDepth);
    }
    if (found->second->state == ExpertState::kDraining) {
      return FailedPrecondition(
          "base \"{}\" of expert \"{}\" is draining; choose another", base,
          spec.name);
    }
    base = found->second->base;
  }
  return absl::OkStatus();
}

absl::Status CheckAliasVersion(std::string_view alias,
                               const AliasRecord& record, uint64_t expected) {
  if (expected == 0 || expected == record.version) return absl::OkStatus();
  return Aborted(
      "alias \"{}\" is at version {}, not {}: it has changed; read it again",
      alias, record.version, expected);
}

// "a, b, c and 4 more"
std::string Some(const std::vector<std::string>& names) {
  std::string text;
  const size_t shown = std::min<size_t>(names.size(), 5);
  for (size_t i = 0; i < shown; ++i) {
    if (i > 0) text += ", ";
    text += names[i];
  }
  if (shown < names.size()) {
    text += fmt::format(" and {} more", names.size() - shown);
  }
  return text;
}

}  // namespace

absl::Status CheckExpertSpec(const ExpertSpec& spec) {
  RETURN_IF_ERROR(CheckName("expert", spec.name));
  if (!spec.model.empty()) RETURN_IF_ERROR(CheckName("model", spec.model));
  if (!spec.base.empty()) RETURN_IF_ERROR(CheckName("base", spec.base));
  if (!spec.worker.empty()) RETURN_IF_ERROR(CheckName("worker", spec.worker));
  RETURN_IF_ERROR(CheckSource(spec));
  if (spec.categories.empty()) {
    return InvalidArgument(
        "expert \"{}\" has no category; give at least one, \"{}\" for one "
        "that answers anything",
        spec.name, kGeneralCategory);
  }
  if (spec.categories.size() > kMaxCategories) {
    return InvalidArgument("expert \"{}\" has {} categories; the limit is {}",
                           spec.name, spec.categories.size(), kMaxCategories);
  }
  std::set<std::string_view> seen;
  for (const std::string& category : spec.categories) {
    RETURN_IF_ERROR(CheckName("category", category));
    if (!seen.insert(category).second) {
      return InvalidArgument("expert \"{}\" names category \"{}\" twice",
                             spec.name, category);
    }
  }
  RETURN_IF_ERROR(CheckSamples(spec));
  // Written so that NaN is refused too.
  if (!(spec.cost >= 0 && spec.cost <= 1e12)) {
    return InvalidArgument("cost is {}; it must be 0 (unknown) to 1e12",
                           spec.cost);
  }
  if (!(spec.quality >= 0 && spec.quality <= 1)) {
    return InvalidArgument("quality is {}; it must be 0 (unknown) to 1",
                           spec.quality);
  }
  return absl::OkStatus();
}

absl::Status CheckRegister(const Snapshot& state, const ExpertSpec& spec) {
  RETURN_IF_ERROR(CheckExpertSpec(spec));
  if (const auto found = state.experts.find(spec.name);
      found != state.experts.end()) {
    return AlreadyExists(
        "expert \"{}\" exists{}; remove it first, or choose another name",
        spec.name,
        found->second->state == ExpertState::kDraining ? " and is draining"
                                                       : "");
  }
  if (const auto found = state.aliases.find(spec.name);
      found != state.aliases.end()) {
    return AlreadyExists(
        "\"{}\" is an alias of expert \"{}\"; remove the alias first, or "
        "choose another name",
        spec.name, found->second.expert);
  }
  if (state.experts.size() >= kMaxExperts) {
    return ResourceExhausted(
        "{} experts are registered, which is the limit; remove one first",
        state.experts.size());
  }
  if (!spec.model.empty()) {
    RETURN_IF_ERROR(FindModel(state, spec.model).status());
  }
  RETURN_IF_ERROR(CheckBase(state, spec));
  if (!spec.worker.empty() && !state.workers.contains(spec.worker)) {
    return NotFound(
        "worker \"{}\" has not joined; start it: conclave worker --join "
        "HOST:PORT --name {}, or leave the worker out.{}",
        spec.worker, spec.worker, DidYouMean(spec.worker, Keys(state.workers)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const ExpertSpec>> FindExpert(
    const Snapshot& state, std::string_view name) {
  const auto found = state.experts.find(std::string(name));
  if (found != state.experts.end()) return found->second;
  return NotFound("no expert \"{}\"; conclave expert list shows them.{}",
                  Shown(name), DidYouMean(name, Keys(state.experts)));
}

absl::StatusOr<ModelRecord> FindModel(const Snapshot& state,
                                      std::string_view name) {
  const auto found = state.models.find(std::string(name));
  if (found != state.models.end()) return found->second;
  return NotFound(
      "model \"{}\" is not imported; import it first: conclave model import "
      "PATH --name {}.{}",
      Shown(name), Shown(name), DidYouMean(name, Keys(state.models)));
}

absl::Status CheckVersion(const ExpertSpec& expert, uint64_t expected) {
  if (expected == 0 || expected == expert.version) return absl::OkStatus();
  return Aborted(
      "expert \"{}\" is at version {}, not {}: it has changed; read it again",
      expert.name, expert.version, expected);
}

absl::Status CheckRetire(const Snapshot& state, const ExpertSpec& expert) {
  std::vector<std::string> dependants;
  for (const auto& [name, other] : state.experts) {
    if (other->base == expert.name) dependants.push_back(name);
  }
  if (!dependants.empty()) {
    return FailedPrecondition(
        "expert \"{}\" is the base of {}; remove what stands on it first",
        expert.name, Some(dependants));
  }
  std::vector<std::string> aliases;
  for (const auto& [alias, target] : state.aliases) {
    if (target.expert == expert.name) aliases.push_back(alias);
  }
  if (!aliases.empty()) {
    return FailedPrecondition(
        "alias {} points at expert \"{}\"; point it at another expert or "
        "remove it first",
        Some(aliases), expert.name);
  }
  if (expert.state == ExpertState::kDraining ||
      !Serves(expert, kGeneralCategory)) {
    return absl::OkStatus();
  }
  bool others_stay = false;
  for (const auto& [name, other] : state.experts) {
    if (name == expert.name || other->state == ExpertState::kDraining) continue;
    // One that is joining is no replacement for one that serves.
    if (Serves(*other, kGeneralCategory) &&
        (other->state == ExpertState::kServing ||
         expert.state == ExpertState::kJoining)) {
      return absl::OkStatus();
    }
    others_stay = true;
  }
  if (!others_stay) return absl::OkStatus();
  return FailedPrecondition(
      "expert \"{}\" is the last one of category \"{}\", which answers what no "
      "other expert does; register another general expert first",
      expert.name, kGeneralCategory);
}

absl::Status CheckModel(const Snapshot& state, const ModelRecord& model) {
  RETURN_IF_ERROR(CheckName("model", model.name));
  for (const std::string* field :
       {&model.version, &model.architecture, &model.source}) {
    if (field->size() > 1024 || !IsText(*field)) {
      return InvalidArgument(
          "model \"{}\": version, architecture and source are UTF-8 of at "
          "most 1024 bytes",
          model.name);
    }
  }
  if (model.version.empty() || model.bytes < 0 || model.parameters < 0 ||
      model.context < 0) {
    return InvalidArgument("model \"{}\" has no version or a negative size",
                           model.name);
  }
  if (!state.models.contains(model.name) && state.models.size() >= kMaxModels) {
    return ResourceExhausted(
        "{} models are registered, which is the limit; remove one first",
        state.models.size());
  }
  return absl::OkStatus();
}

absl::Status CheckRemoveModel(const Snapshot& state, std::string_view name,
                              std::string_view expected_version) {
  ASSIGN_OR_RETURN(const ModelRecord model, FindModel(state, name));
  if (!expected_version.empty() && expected_version != model.version) {
    return Aborted(
        "model \"{}\" is version {}, not {}: it has changed; read it again",
        name, model.version, Shown(expected_version));
  }
  std::vector<std::string> users;
  for (const auto& [expert_name, expert] : state.experts) {
    if (expert->model == name) users.push_back(expert_name);
  }
  if (users.empty()) return absl::OkStatus();
  return FailedPrecondition(
      "model \"{}\" is used by expert {}; remove the expert first", name,
      Some(users));
}

absl::Status CheckSetAlias(const Snapshot& state, std::string_view alias,
                           std::string_view expert, uint64_t expected_version) {
  RETURN_IF_ERROR(CheckName("alias", alias));
  if (state.experts.contains(std::string(alias))) {
    return AlreadyExists(
        "\"{}\" is an expert; choose another name for the alias", alias);
  }
  ASSIGN_OR_RETURN(const auto target, FindExpert(state, expert));
  if (target->state == ExpertState::kDraining) {
    return FailedPrecondition(
        "expert \"{}\" is draining; point the alias at another", expert);
  }
  const auto found = state.aliases.find(std::string(alias));
  if (expected_version != 0 && found == state.aliases.end()) {
    return Aborted(
        "alias \"{}\" is not set, so not at version {}: it has changed; read "
        "it "
        "again",
        alias, expected_version);
  }
  if (found != state.aliases.end()) {
    return CheckAliasVersion(alias, found->second, expected_version);
  }
  if (state.aliases.size() >= kMaxAliases) {
    return ResourceExhausted(
        "{} aliases are set, which is the limit; remove one first",
        state.aliases.size());
  }
  return absl::OkStatus();
}

absl::Status CheckRemoveAlias(const Snapshot& state, std::string_view alias,
                              uint64_t expected_version) {
  const auto found = state.aliases.find(std::string(alias));
  if (found != state.aliases.end()) {
    return CheckAliasVersion(alias, found->second, expected_version);
  }
  return NotFound("no alias \"{}\".{}", Shown(alias),
                  DidYouMean(alias, Keys(state.aliases)));
}

absl::Status CheckWorker(std::string_view name, std::string_view address,
                         const std::vector<std::string>& models,
                         absl::Duration lease) {
  RETURN_IF_ERROR(CheckName("worker", name));
  const bool plain = std::all_of(address.begin(), address.end(),
                                 [](char c) { return c > ' ' && c <= '~'; });
  if (!plain || address.size() > kMaxAddressBytes) {
    return InvalidArgument("worker \"{}\": address \"{}\" is not HOST:PORT",
                           name, Shown(address));
  }
  if (models.size() > kMaxWorkerModels) {
    return InvalidArgument("worker \"{}\" lists {} models; the limit is {}",
                           name, models.size(), kMaxWorkerModels);
  }
  for (const std::string& model : models) {
    if (model.empty() || model.size() > 128 || !IsText(model)) {
      return InvalidArgument(
          "worker \"{}\" lists a model version that is not 1 to 128 bytes of "
          "text",
          name);
    }
  }
  if (lease < kMinLease || lease > kMaxLease) {
    return InvalidArgument("a lease is {} ms to {} ms, not {} ms",
                           absl::ToInt64Milliseconds(kMinLease),
                           absl::ToInt64Milliseconds(kMaxLease),
                           absl::ToInt64Milliseconds(lease));
  }
  return absl::OkStatus();
}

absl::Status CheckIdempotencyKey(std::string_view key) {
  if (key.size() <= kMaxIdempotencyKeyBytes && IsText(key)) {
    return absl::OkStatus();
  }
  return InvalidArgument(
      "idempotency_key is {} bytes; use at most {} bytes of UTF-8 text",
      key.size(), kMaxIdempotencyKeyBytes);
}

}  // namespace conclave::registry
