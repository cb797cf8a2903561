#include "router_service/router_core.h"

#include <absl/time/clock.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <random>
#include <set>
#include <utility>

#include "base/names.h"

namespace conclave::router {
namespace {

using registry::ExpertState;
using registry::Snapshot;

std::unique_ptr<StreamCall> Refuse(const StreamCallbacks& callbacks,
                                   absl::Status status) {
  callbacks.on_done(std::move(status));
  return std::make_unique<EndedStream>();
}

std::string RandomPrefix() {
  std::random_device random;
  return fmt::format("req-{:08x}{:08x}-", random(), random());
}

absl::Status CheckTenant(const std::string& tenant) {
  return tenant.empty() ? absl::OkStatus() : CheckName("tenant", tenant);
}

bool Routes(const std::string& model) {
  return model.empty() || model == "auto";
}

// Everything that this name may stand for, with the bases beneath.
std::set<std::string> WithBases(const Snapshot& snapshot,
                                const std::vector<std::string>& experts) {
  std::set<std::string> all;
  for (std::string name : experts) {
    while (!name.empty() && all.insert(name).second) {
      const auto it = snapshot.experts.find(name);
      name = it == snapshot.experts.end() ? "" : it->second->base;
    }
  }
  return all;
}

// A model that no expert runs still answers by its name.
Routing ModelItself(const v1::GenerateRequest& request,
                    const Snapshot& snapshot) {
  Routing routing;
  routing.candidates = {request.model()};
  v1::Decision& decision = routing.decision;
  decision.set_request_id(request.request_id());
  decision.set_expert(request.model());
  decision.set_tier("bypass");
  decision.set_why("the request names a model that no expert runs");
  auto* candidate = decision.add_candidates();
  candidate->set_expert(request.model());
  candidate->set_propensity(1);
  candidate->set_why("named by the request");
  (*decision.mutable_versions())["registry"] =
      std::to_string(snapshot.revision);
  return routing;
}

// So that feedback finds the version it judges.
void NoteVersions(const Snapshot& snapshot, Routing& routing) {
  constexpr size_t kMost = 16;
  for (size_t i = 0; i < std::min(kMost, routing.candidates.size()); ++i) {
    const auto it = snapshot.experts.find(routing.candidates[i]);
    if (it == snapshot.experts.end()) continue;
    (*routing.decision.mutable_versions())[ExpertVersionKey(it->first)] =
        std::to_string(it->second->version);
  }
}

}  // namespace

absl::Status CheckRequestId(std::string_view id) {
  const bool fits =
      !id.empty() && id.size() <= 128 && std::ranges::all_of(id, [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
               (c >= '0' && c <= '9') || c == '.' || c == '_' || c == ':' ||
               c == '-';
      });
  if (fits) return absl::OkStatus();
  return InvalidArgument("request_id must be 1..128 of [A-Za-z0-9._:-]");
}

RouterCore::RouterCore(RouterCoreDependencies dependencies,
                       RouterCoreOptions options)
    : dependencies_(std::move(dependencies)),
      options_(std::move(options)),
      id_prefix_(RandomPrefix()),
      in_flight_([this] {
        std::lock_guard lock(mutex_);
        ended_ = true;
        if (draining_) wake_.notify_one();
      }),
      dispatcher_(dependencies_.resolver, dependencies_.clock,
                  options_.dispatch),
      housekeeper_([this] { KeepHouse(); }) {}

RouterCore::~RouterCore() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake_.notify_one();
  housekeeper_.join();
}

absl::StatusOr<std::string> RouterCore::RequestId(const std::string& given) {
  if (given.empty()) return id_prefix_ + std::to_string(next_id_++);
  RETURN_IF_ERROR(CheckRequestId(given));
  return given;
}

absl::StatusOr<Routing> RouterCore::Decide(const v1::GenerateRequest& request,
                                           const Snapshot& snapshot) {
  absl::StatusOr<Routing> routing = dependencies_.decide(request, snapshot);
  if (absl::IsNotFound(routing.status()) &&
      snapshot.models.contains(request.model())) {
    routing = ModelItself(request, snapshot);
  }
  if (!routing.ok()) return routing;
  routing->decision.set_tenant(request.tenant());
  NoteVersions(snapshot, *routing);
  dependencies_.journal->RecordDecision(routing->decision);
  return routing;
}

absl::StatusOr<v1::Decision> RouterCore::Route(
    const v1::RouteRequest& request) {
  v1::GenerateRequest generate;
  ASSIGN_OR_RETURN(*generate.mutable_request_id(),
                   RequestId(request.request_id()));
  RETURN_IF_ERROR(CheckTenant(request.tenant()));
  generate.set_tenant(request.tenant());
  generate.set_model(request.model());
  if (request.has_chat()) *generate.mutable_chat() = request.chat();
  if (request.has_text()) generate.set_text(request.text());
  const auto snapshot = dependencies_.registry->snapshot();
  ASSIGN_OR_RETURN(Routing routing, Decide(generate, *snapshot));
  return std::move(routing.decision);
}

std::unique_ptr<StreamCall> RouterCore::Generate(
    const v1::GenerateRequest& request, absl::Time deadline,
    StreamCallbacks callbacks) {
  absl::StatusOr<std::string> id = RequestId(request.request_id());
  if (!id.ok()) return Refuse(callbacks, id.status());
  const absl::Status tenant = CheckTenant(request.tenant());
  if (!tenant.ok()) return Refuse(callbacks, tenant);
  if (request.prompt_case() == v1::GenerateRequest::PROMPT_NOT_SET) {
    return Refuse(callbacks, InvalidArgument("the request has no prompt"));
  }
  v1::GenerateRequest named = request;
  named.set_request_id(*id);

  DispatchRequest dispatch;
  dispatch.ticket = in_flight_.Begin();
  dispatch.snapshot = dependencies_.registry->snapshot();
  dispatch.ticket.SetRevision(dispatch.snapshot->revision);
  absl::StatusOr<Routing> routing = Decide(named, *dispatch.snapshot);
  if (!routing.ok()) return Refuse(callbacks, routing.status());
  dispatch.ticket.Narrow(WithBases(*dispatch.snapshot, routing->candidates));
  dispatch.experts = std::move(routing->candidates);
  dispatch.decision = std::move(routing->decision);
  dispatch.deadline = std::min(
      deadline, dependencies_.clock->Now() + options_.default_deadline);

  v1::WorkerGenerateRequest& out = dispatch.request;
  out.set_request_id(*id);
  out.set_tenant(named.tenant());
  out.mutable_sampling()->Swap(named.mutable_sampling());
  if (named.has_chat()) out.mutable_chat()->Swap(named.mutable_chat());
  if (named.has_text()) out.set_text(std::move(*named.mutable_text()));
  if (named.has_tokens()) out.mutable_tokens()->Swap(named.mutable_tokens());

  DispatchCallbacks inner;
  inner.on_event = std::move(callbacks.on_event);
  inner.on_done = [journal = dependencies_.journal,
                   id = RecordId(request.tenant(), *id),
                   on_done = std::move(callbacks.on_done)](
                      absl::Status status, v1::Outcome outcome) {
    journal->RecordOutcome(id, std::move(outcome));
    on_done(std::move(status));
  };
  return dispatcher_.Generate(std::move(dispatch), std::move(inner));
}

// The name itself; for "auto" the first model, by name, that is an encoder.
std::string RouterCore::EmbedModel(const std::string& given,
                                   const Snapshot& snapshot) const {
  if (!Routes(given)) {
    if (snapshot.experts.contains(given)) return given;
    const auto alias = snapshot.aliases.find(given);
    return alias == snapshot.aliases.end() ? given : alias->second.expert;
  }
  for (const auto& [name, model] : snapshot.models) {
    if (model.architecture == "bert") return name;
  }
  return "";
}

absl::StatusOr<v1::EmbedResponse> RouterCore::Embed(
    const v1::EmbedRequest& request, absl::Time deadline) {
  const size_t inputs = static_cast<size_t>(request.inputs_size());
  if (inputs == 0 || inputs > options_.max_embed_inputs) {
    return InvalidArgument("inputs has {} texts; it must have 1..{}", inputs,
                           options_.max_embed_inputs);
  }
  InFlight::Ticket ticket = in_flight_.Begin();
  const auto snapshot = dependencies_.registry->snapshot();
  ticket.SetRevision(snapshot->revision);
  const std::string name = EmbedModel(request.model(), *snapshot);
  if (name.empty()) {
    return NotFound(
        "no model that makes embeddings is registered; import one: conclave "
        "model import PATH --name NAME");
  }
  const auto expert = snapshot->experts.find(name);
  if (expert == snapshot->experts.end() && !snapshot->models.contains(name)) {
    std::vector<std::string> known;
    for (const auto& [other, record] : snapshot->models) {
      known.push_back(other);
    }
    for (const auto& [other, spec] : snapshot->experts) {
      known.push_back(other);
    }
    return NotFound("no expert, alias or model served here is called {}.{}",
                    name, DidYouMean(name, known));
  }
  if (expert != snapshot->experts.end() &&
      expert->second->state != ExpertState::kServing) {
    return Unavailable(
        "expert {} takes no requests now: it is joining or draining", name);
  }
  ticket.Answering(name, WithBases(*snapshot, {name}));
  const absl::Time limit = std::min(
      deadline, dependencies_.clock->Now() + options_.default_deadline);
  ASSIGN_OR_RETURN(v1::EmbedResponse response,
                   dispatcher_.Embed(request, {name}, *snapshot, limit));
  response.set_model(name);
  return response;
}

absl::StatusOr<v1::ExplainResponse> RouterCore::Explain(
    const v1::ExplainRequest& request) {
  RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  RETURN_IF_ERROR(CheckTenant(request.tenant()));
  return dependencies_.journal->Explain(
      RecordId(request.tenant(), request.request_id()));
}

absl::Status RouterCore::Feedback(const v1::FeedbackRequest& request) {
  RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  RETURN_IF_ERROR(CheckTenant(request.tenant()));
  return dependencies_.journal->AddFeedback(
      RecordId(request.tenant(), request.request_id()), request.score(),
      request.comment());
}

void RouterCore::KeepHouse() {
  const auto period = absl::ToChronoNanoseconds(options_.housekeeping);
  std::chrono::steady_clock::time_point next_refresh;
  std::unique_lock lock(mutex_);
  while (!closing_) {
    ended_ = false;
    lock.unlock();
    const auto snapshot = dependencies_.registry->snapshot();
    RemoveIdle(*snapshot);
    const auto now = std::chrono::steady_clock::now();
    if (dependencies_.workers != nullptr && now >= next_refresh) {
      dependencies_.workers->Refresh(*snapshot, absl::Milliseconds(300));
      next_refresh = std::chrono::steady_clock::now() + period;
    }
    lock.lock();
    wake_.wait_for(lock, period,
                   [this] { return closing_ || (draining_ && ended_); });
  }
}

// A request that began after the first snapshot in which an expert drained
// cannot choose it; once the older ones are gone, so is the need for it.
void RouterCore::RemoveIdle(const Snapshot& snapshot) {
  if (!dependencies_.remove_drained) return;
  decltype(draining_since_) draining;
  for (const auto& [name, expert] : snapshot.experts) {
    if (expert->state != ExpertState::kDraining) continue;
    const auto key = std::pair(name, expert->version);
    const auto known = draining_since_.find(key);
    draining[key] =
        known == draining_since_.end() ? snapshot.revision : known->second;
  }
  draining_since_ = draining;
  {
    std::lock_guard lock(mutex_);
    draining_ = !draining.empty();
  }
  for (const auto& [key, revision] : draining) {
    if (!in_flight_.IdleSince(key.first, revision)) continue;
    const registry::ExpertSpec& expert = *snapshot.experts.at(key.first);
    // A failure is tried again at the next look.
    if (dependencies_.remove_drained(expert).ok()) {
      ReleaseWeights(snapshot, expert);
    }
  }
}

void RouterCore::ReleaseWeights(const Snapshot& snapshot,
                                const registry::ExpertSpec& expert) {
  const std::string& model = expert.model;
  if (dependencies_.workers == nullptr || !snapshot.models.contains(model)) {
    return;
  }
  for (const auto& [name, other] : snapshot.experts) {
    if (name != expert.name && other->model == model) return;  // still needed
  }
  const registry::ModelRecord& record = snapshot.models.at(model);
  v1::UnloadRequest request;
  request.set_model(record.version);
  const absl::Time deadline = absl::Now() + absl::Seconds(5);
  // Whoever can have the weights, not who had most of them at the last look: a
  // request may have loaded them since. At the same time, so that a worker that
  // hangs holds up no other. Best effort: what stays is evicted when its room
  // is needed.
  std::vector<std::future<void>> calls;
  for (const auto& worker :
       dependencies_.workers->Choose(snapshot, record, /*pinned=*/"")) {
    calls.push_back(
        std::async(std::launch::async,
                   [&request, deadline,
                    client = dependencies_.workers->Client(worker.address)] {
                     (void)client->Unload(request, deadline);
                   }));
  }
}

}  // namespace conclave::router
