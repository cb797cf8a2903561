// Who starts, who loads, who leaves.
#include <algorithm>

#include "base/check.h"
#include "expert_workers/host.h"

namespace conclave::workers {
namespace {

constexpr int kFewInputs = 8;

}  // namespace

void Host::DirectLoop() {
  for (;;) {
    Actions actions;
    {
      std::unique_lock lock(mutex_);
      absl::Time next = absl::InfiniteFuture();
      for (const auto& [version, model] : models_) {
        for (const JobPtr& job : model->waiting) {
          next = std::min(next, job->begin_by);
        }
        for (const JobPtr& job : model->unloads) {
          next = std::min(next, job->begin_by);
        }
      }
      const auto news = [this] { return dirty_ || stop_; };
      if (next == absl::InfiniteFuture()) {
        news_.wait(lock, news);
      } else {
        news_.wait_until(lock, absl::ToChronoTime(next), news);
      }
      dirty_ = false;
      if (stop_) return;
      CollectEndedLocked(actions);
      DecideLocked(actions);
    }
    Perform(std::move(actions));
  }
}

// Waiting jobs that were cancelled or ran out of time, and running ones whose
// engine does not know yet that they were cancelled.
void Host::CollectEndedLocked(Actions& actions) {
  const absl::Time now = absl::Now();
  Residency model_state = Residency::kCold;
  const auto ended = [&](const JobPtr& job) {
    if (job->cancelled) {
      actions.fail.emplace_back(job, Cancelled("cancelled"));
    } else if (job->deadline <= now) {
      actions.fail.emplace_back(
          job, DeadlineExceeded(
                   "the request could not begin in time: model \"{}\" is {}",
                   job->model_name,
                   model_state == Residency::kLive
                       ? "busy"
                       : "not resident, and others hold the memory budget"));
    } else if (job->begin_by <= now) {
      actions.fail.emplace_back(
          job, ResourceExhausted(
                   "the request waited {} for model \"{}\"; the worker is "
                   "overloaded, try again later",
                   absl::FormatDuration(now - job->arrived), job->model_name));
    } else {
      return false;
    }
    return true;
  };
  for (const auto& [version, model] : models_) {
    model_state = model->state;
    std::erase_if(model->waiting, [&](const JobPtr& job) {
      if (!ended(job)) return false;
      LeaveQueueLocked(*job);
      return true;
    });
    std::erase_if(model->unloads, ended);
  }
  for (const JobPtr& job : active_) {
    if (job->cancelled && !job->cancel_sent && job->ticket != 0) {
      job->cancel_sent = true;
      actions.cancel.emplace_back(job->model->engine.get(), job->ticket);
    }
  }
}

void Host::DecideLocked(Actions& actions) {
  std::vector<ModelPtr> models;
  std::vector<ModelView> views;
  for (const auto& [version, model] : models_) {
    if (model->state == Residency::kCold) {
      model->room = {LiveFootprint(*model->manifest, options_),
                     model->encodes ? 0 : kv_share_.load()};
      if (model->draft != nullptr) {
        model->room.weights += Footprint(*model->draft);
      }
    }
    ModelView view;
    view.state = model->state;
    view.room = model->room;
    view.active = model->active;
    view.max_active = MaxActiveLocked(*model);
    for (const JobPtr& job : model->waiting) {
      view.waiting.push_back(job->tag);
    }
    view.last_used = model->last_used;
    view.turn_used = model->turn_used;
    view.wants_out = !model->unloads.empty();
    models.push_back(model);
    views.push_back(std::move(view));
  }
  const Decision decision =
      Decide(views, {options_.ram_budget_bytes, options_.kv_budget_bytes},
             options_.turn_requests);
  for (size_t i = 0; i < models.size(); ++i) {
    HostedModel& model = *models[i];
    const Decision::PerModel& mine = decision.models[i];
    model.turn_used = mine.pressed ? model.turn_used + mine.out_of_order : 0;
    for (int k = 0; k < mine.admit; ++k) {
      const JobPtr job = TakeNextLocked(model);
      if (job == nullptr) break;
      LeaveQueueLocked(*job);
      order_.Begin(job->tag);
      job->phase = Job::Phase::kActive;
      ++model.active;
      model.last_used = ++use_clock_;
      if (job->kind == Job::Kind::kGenerate) active_.push_back(job);
      actions.start.push_back(job);
    }
    if (mine.move == Decision::Move::kLoad) {
      model.state = Residency::kLoading;
      actions.moves.push_back({models[i], /*load=*/true});
    } else if (mine.move == Decision::Move::kUnload) {
      model.state = Residency::kLeaving;
      actions.moves.push_back({models[i], false, !model.unloads.empty()});
    } else if (model.state == Residency::kCold && !model.unloads.empty()) {
      // Nothing runs; what the tier keeps of it may go.
      model.state = Residency::kLeaving;
      actions.moves.push_back({models[i], false, true});
    }
  }
}

void Host::Perform(Actions actions) {
  for (auto& [job, status] : actions.fail) {
    job->is_over = true;
    job->Fail(status);
  }
  // Engines here are alive: only this thread orders unloads, and none is
  // ordered while a job is active.
  for (const auto& [engine, ticket] : actions.cancel) engine->Cancel(ticket);
  for (Move& move : actions.moves) {
    CHECK(moves_.TryPush(std::move(move)), "too many moves");
  }
  for (const JobPtr& job : actions.start) Start(job);
}

void Host::Start(const JobPtr& job) {
  switch (job->kind) {
    case Job::Kind::kLoad: {
      v1::LoadResponse response;
      response.set_version(job->model->manifest->version);
      response.set_bytes(LiveFootprint(*job->model->manifest, options_));
      {
        std::lock_guard lock(mutex_);
        response.set_load_us(job->loads ? job->model->load_us : 0);
      }
      Over(job);
      job->load_done(std::move(response));
      return;
    }
    case Job::Kind::kEmbed: {
      BoundedQueue<JobPtr>& queue =
          job->embed_request.inputs_size() <= kFewInputs ? embedding_few_
                                                         : embedding_many_;
      if (!queue.TryPush(JobPtr(job))) {
        Over(job);
        job->Fail(ResourceExhausted("too many texts wait to be embedded"));
      }
      return;
    }
    case Job::Kind::kGenerate:
      break;
    case Job::Kind::kUnload:
      CHECK(false, "an unload is never started");
  }
  const absl::StatusOr<uint64_t> ticket = job->model->engine->Submit(
      std::move(job->engine_request),
      [this, job](const engine::EngineEvent& event) {
        // Cancelled by nobody: the engine is being taken down.
        const absl::Status cancelled =
            job->cancelled ? Cancelled("cancelled")
                           : Unavailable("the worker is stopping");
        if (job->stream->Take(event, cancelled)) Over(job);
      });
  if (!ticket.ok()) {
    Over(job);
    job->Fail(ticket.status());
    return;
  }
  std::lock_guard lock(mutex_);
  job->ticket = *ticket;
  if (job->cancelled) dirty_ = true;
}

void Host::Over(const JobPtr& job) {
  {
    std::lock_guard lock(mutex_);
    job->phase = Job::Phase::kOver;
    job->is_over = true;
    --job->model->active;
    std::erase(active_, job);
    dirty_ = true;
  }
  news_.notify_one();
}

}  // namespace conclave::workers
