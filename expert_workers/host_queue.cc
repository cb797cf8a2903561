// Who may wait, and in which order: tenants in turn.
#include <algorithm>
#include <set>

#include "expert_workers/host.h"

namespace conclave::workers {
namespace {

// What a request is worth to its tenant's share, in tokens: its prompt and
// what it may generate. Most that ask for thousands end earlier.
constexpr int64_t kMostGenerated = 512;
// Who has no more than this part of a queue may enter it when it is full.
constexpr int kFewPart = 16;

int64_t Cost(const Job& job) {
  if (job.kind == Job::Kind::kGenerate) {
    const engine::EngineRequest& request = job.engine_request;
    const int64_t asked = request.sampling.max_tokens;
    return static_cast<int64_t>(request.prompt.size()) +
           (asked < 0 ? kMostGenerated : std::min(asked, kMostGenerated)) + 1;
  }
  if (job.kind == Job::Kind::kEmbed) {
    // Four bytes a token, about.
    return static_cast<int64_t>(job.embed_request.ByteSizeLong() / 4) + 1;
  }
  return 1;
}

}  // namespace

absl::Status Host::EnterQueueLocked(const Job& job) {
  int& mine = not_begun_[job.tenant()];
  const int few = options_.max_waiting / kFewPart;
  const bool room = num_not_begun_ < options_.max_waiting ||
                    (mine <= few && num_not_begun_ < 2 * options_.max_waiting);
  if (!room) {
    const int of_tenant = mine;
    if (mine == 0) not_begun_.erase(job.tenant());
    return ResourceExhausted(
        "the queue is full: {} requests wait, {} may, and {} of them are this "
        "tenant's; try again later",
        num_not_begun_, options_.max_waiting, of_tenant);
  }
  ++mine;
  ++num_not_begun_;
  return absl::OkStatus();
}

void Host::LeaveQueueLocked(const Job& job) {
  const auto mine = not_begun_.find(job.tenant());
  if (--mine->second == 0) not_begun_.erase(mine);
  --num_not_begun_;
}

void Host::WaitForModelLocked(const JobPtr& job) {
  HostedModel& model = *job->model;
  job->phase = Job::Phase::kWaiting;
  if (job->kind == Job::Kind::kUnload) {
    LeaveQueueLocked(*job);
    model.unloads.push_back(job);
    return;
  }
  job->loads = model.state != Residency::kLive;
  const uint64_t floor =
      model.waiting.empty() ? order_.now() : model.waiting.front()->tag;
  job->tag = order_.Arrive(job->tenant(), floor, Cost(*job));
  const auto at = std::upper_bound(
      model.waiting.begin(), model.waiting.end(), job,
      [](const JobPtr& a, const JobPtr& b) { return a->tag < b->tag; });
  model.waiting.insert(at, job);
}

int Host::SharedSlots() const { return options_.max_batch + 2; }

int Host::MaxActiveLocked(const HostedModel& model) const {
  std::set<std::string_view> tenants;
  for (const JobPtr& job : model.waiting) tenants.insert(job->tenant());
  for (const JobPtr& job : active_) {
    if (job->model.get() == &model) tenants.erase(job->tenant());
  }
  const int guests = static_cast<int>(tenants.size());
  const int most = SharedSlots() + options_.max_batch;
  return std::max(SharedSlots(), std::min(model.active + guests, most));
}

JobPtr Host::TakeNextLocked(HostedModel& model) {
  auto next = model.waiting.begin();
  if (model.active >= SharedSlots()) {
    std::set<std::string_view> tenants;
    for (const JobPtr& job : active_) {
      if (job->model.get() == &model) tenants.insert(job->tenant());
    }
    next = std::find_if(next, model.waiting.end(), [&](const JobPtr& job) {
      return !tenants.contains(job->tenant());
    });
  }
  if (next == model.waiting.end()) return nullptr;
  JobPtr job = *next;
  model.waiting.erase(next);
  return job;
}

}  // namespace conclave::workers
