#include "router_service/dispatch/dispatcher.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

namespace conclave::router {
namespace {

// A request that met its own deadline says nothing of the target.
Verdict Judge(const absl::Status& status, bool deadline_passed) {
  if (deadline_passed && status.code() == absl::StatusCode::kDeadlineExceeded) {
    return Verdict::kNone;
  }
  return VerdictOf(status);
}

std::string Attempt(const std::string& expert, const absl::Status& status) {
  return fmt::format("{}: {} {}", expert, CodeName(status.code()),
                     Message(status));
}

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

// `timeout` after `now`.
int64_t Later(int64_t now, absl::Duration timeout) {
  const int64_t nanos = absl::ToInt64Nanoseconds(timeout);
  return nanos > kNever - now ? kNever : now + nanos;
}

// What the caller hears when everybody has failed.
absl::Status AllFailed(const v1::Outcome& outcome, const absl::Status& last) {
  if (outcome.attempts_size() <= 1) return last;
  return Annotate(last, fmt::format("{} attempts failed; the last",
                                    outcome.attempts_size()));
}

}  // namespace

bool MayRetry(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return false;
    default:
      return true;
  }
}

// Events come one at a time, so what only they touch needs no lock; the lock
// guards what Cancel, Pause and the destructor share with them.
class DispatchCall final : public StreamCall {
 public:
  DispatchCall(Dispatcher* dispatcher, DispatchRequest request,
               DispatchCallbacks callbacks)
      : dispatcher_(dispatcher),
        request_(std::move(request)),
        callbacks_(std::move(callbacks)),
        start_ns_(dispatcher->clock_->MonotonicNanos()),
        watch_(dispatcher->watchdog_.Start(
            Later(start_ns_, LookEvery()),
            [this](int64_t now) { return CheckLate(now); })) {}

  ~DispatchCall() override {
    watch_ = {};
    Cancel();
    std::unique_lock lock(mutex_);
    quiet_.wait(lock, [this] { return done_ && busy_ == 0; });
    lock.unlock();
    calls_.clear();  // each waits for its own on_done to return
  }

  void Cancel() override {
    ForEachCall([this] { cancelled_ = true; },
                [](StreamCall& call) { call.Cancel(); });
  }
  void Pause() override {
    ForEachCall(
        [this] {
          paused_ = true;
          ExpectLocked();
        },
        [](StreamCall& call) { call.Pause(); });
  }
  void Resume() override {
    ForEachCall(
        [this] {
          paused_ = false;
          ExpectLocked();
        },
        [](StreamCall& call) { call.Resume(); });
  }

  // Starts the next target, or ends the call when there is none. Runs in
  // Dispatcher::Generate, then in the on_done of each failed attempt.
  void StartNext() {
    {
      std::lock_guard lock(mutex_);
      ++busy_;
    }
    while (true) {
      if (IsCancelled()) {
        Finish(Cancelled("the request was cancelled"));
        break;
      }
      if (!FindTarget()) {
        Finish(AllFailed(outcome_, last_error_));
        break;
      }
      const absl::Status admitted = dispatcher_->breaker_.Admit(target_.key);
      if (!admitted.ok()) {
        Note(admitted);
        continue;
      }
      StartTarget();
      break;
    }
    std::lock_guard lock(mutex_);
    --busy_;
    quiet_.notify_all();
  }

 private:
  template <typename Change, typename Tell>
  void ForEachCall(Change change, Tell tell) {
    std::lock_guard lock(mutex_);
    change();
    for (const auto& call : calls_) tell(*call);
  }

  bool IsCancelled() {
    std::lock_guard lock(mutex_);
    return cancelled_;
  }

  // --- Silence ---

  const DispatchOptions& options() const { return dispatcher_->options_; }
  absl::Duration Patience() const {
    return committed_ ? options().token_timeout : options().first_token_timeout;
  }
  // Often enough to meet a time limit that was set since the last look.
  absl::Duration LookEvery() const {
    return std::min(options().token_timeout, options().first_token_timeout);
  }

  // From now on the target has its time again, unless nobody wants its tokens.
  void ExpectLocked() {
    late_after_ns_ =
        paused_ ? kNever
                : Later(dispatcher_->clock_->MonotonicNanos(), Patience());
  }

  // The watchdog's look: gives a late target up, which ends with on_done.
  int64_t CheckLate(int64_t now) {
    std::lock_guard lock(mutex_);
    if (now >= late_after_ns_ && !calls_.empty()) {
      late_ = true;
      late_after_ns_ = kNever;
      calls_.back()->Cancel();
    }
    return std::min(late_after_ns_, Later(now, LookEvery()));
  }

  // The status of a target that has ended, if we had given it up.
  absl::Status WithLateness(absl::Status status) {
    std::lock_guard lock(mutex_);
    late_after_ns_ = kNever;
    if (!std::exchange(late_, false) || cancelled_ ||
        status.code() != absl::StatusCode::kCancelled) {
      return status;
    }
    return DeadlineExceeded("no {}token came within {} s",
                            committed_ ? "" : "first ",
                            absl::ToDoubleSeconds(Patience()));
  }

  bool DeadlinePassed() const {
    return dispatcher_->clock_->Now() >= request_.deadline;
  }

  void Note(const absl::Status& status) {
    last_error_ = Annotate(status, "expert " + expert_);
    outcome_.add_attempts(Attempt(expert_, status));
  }

  // Sets expert_, uses_ and target_ to what is to be tried next.
  bool FindTarget() {
    while (attempts_ < dispatcher_->options_.max_attempts) {
      if (!targets_.empty()) {
        target_ = std::move(targets_.front());
        targets_.pop_front();
        return true;
      }
      if (next_expert_ == request_.experts.size()) return false;
      expert_ = request_.experts[next_expert_++];
      absl::StatusOr<ResolvedExpert> resolved =
          dispatcher_->resolver_->Resolve(*request_.snapshot, expert_);
      if (!resolved.ok()) {
        Note(resolved.status());
        continue;
      }
      uses_ = std::move(resolved->uses);
      targets_.assign(std::make_move_iterator(resolved->targets.begin()),
                      std::make_move_iterator(resolved->targets.end()));
    }
    return false;
  }

  void StartTarget() {
    ++attempts_;
    started_.reset();
    {
      std::lock_guard lock(mutex_);
      ExpectLocked();
    }
    StreamCallbacks callbacks;
    callbacks.on_event = [this](const v1::GenerateEvent& event) {
      OnEvent(event);
    };
    callbacks.on_done = [this](absl::Status status) {
      OnTargetDone(std::move(status));
    };
    // The target's own copy: a call that ends at once replaces target_ while
    // Generate still runs.
    const std::shared_ptr<Target> target = target_.target;
    std::unique_ptr<StreamCall> call = target->Generate(
        request_.request, request_.deadline, std::move(callbacks));
    std::lock_guard lock(mutex_);
    if (cancelled_) call->Cancel();
    if (paused_) call->Pause();
    calls_.push_back(std::move(call));
    alive_.push_back(target);
  }

  void OnEvent(const v1::GenerateEvent& event) {
    if (IsCancelled()) return;
    if (event.has_started()) {
      if (!committed_) started_ = event;
      return;
    }
    if (!committed_ && !event.has_usage()) Commit();
    if (committed_) {
      std::lock_guard lock(mutex_);
      ExpectLocked();
    }
    if (event.has_finished()) {
      outcome_.set_finish_reason(event.finished().reason());
    }
    if (event.has_usage()) {
      outcome_.set_prompt_tokens(event.usage().prompt_tokens());
      outcome_.set_completion_tokens(event.usage().completion_tokens());
    }
    if (committed_) callbacks_.on_event(event);
  }

  // The first token: from here on the choice is final.
  void Commit() {
    {
      std::lock_guard lock(mutex_);
      committed_ = true;
    }
    outcome_.set_ttft_us(ElapsedUs());
    outcome_.set_expert(expert_);
    request_.ticket.Answering(expert_, uses_);
    v1::GenerateEvent event;
    if (started_) event = *std::move(started_);
    auto* started = event.mutable_started();
    started->set_request_id(request_.request.request_id());
    started->set_expert(expert_);
    *started->mutable_decision() = request_.decision;
    outcome_.set_prompt_tokens(started->prompt_tokens());
    callbacks_.on_event(event);
  }

  void OnTargetDone(absl::Status status) {
    status = WithLateness(std::move(status));
    if (status.ok() && !committed_) {
      status = Unavailable("it ended without an answer");
    }
    const bool cancelled = IsCancelled();
    dispatcher_->breaker_.Report(
        target_.key,
        cancelled ? Verdict::kNone : Judge(status, DeadlinePassed()));
    if (status.ok()) return Finish(std::move(status));
    if (cancelled) return Finish(Cancelled("the request was cancelled"));
    if (committed_) {
      Note(status);
      return Finish(Annotate(status, "expert " + expert_));
    }
    // As it came: a caller looks for codes such as context_length_exceeded.
    if (!MayRetry(status)) return Finish(std::move(status));
    Note(status);
    if (DeadlinePassed()) {
      return Finish(
          DeadlineExceeded("the deadline passed; the last attempt: "
                           "{}",
                           Message(last_error_)));
    }
    StartNext();
  }

  int64_t ElapsedUs() const {
    return (dispatcher_->clock_->MonotonicNanos() - start_ns_) / 1000;
  }

  void Finish(absl::Status status) {
    outcome_.set_total_us(ElapsedUs());
    outcome_.set_status(std::string(CodeName(status.code())));
    if (status.code() == absl::StatusCode::kCancelled) {
      outcome_.set_finish_reason("cancelled");
    }
    callbacks_.on_done(std::move(status), std::move(outcome_));
    request_.ticket.End();
    std::lock_guard lock(mutex_);
    done_ = true;
    quiet_.notify_all();
  }

  Dispatcher* const dispatcher_;
  DispatchRequest request_;
  const DispatchCallbacks callbacks_;
  const int64_t start_ns_;

  // Touched by one thread at a time: Generate's, then the targets' callbacks.
  size_t next_expert_ = 0;
  int attempts_ = 0;
  std::deque<ResolvedTarget> targets_;  // of expert_, yet to be tried
  std::string expert_;
  std::set<std::string> uses_;
  ResolvedTarget target_;
  std::optional<v1::GenerateEvent> started_;
  bool committed_ = false;  // changed under mutex_: others look at it there
  absl::Status last_error_ = Unavailable("no expert can answer");
  v1::Outcome outcome_;

  std::mutex mutex_;
  std::condition_variable quiet_;
  bool cancelled_ = false;
  bool paused_ = false;
  bool late_ = false;  // the target was given up; its on_done is awaited
  int64_t late_after_ns_ = kNever;
  bool done_ = false;
  int busy_ = 0;  // threads inside StartNext
  std::vector<std::unique_ptr<StreamCall>> calls_;
  std::vector<std::shared_ptr<Target>> alive_;  // outlive their calls
  Watchdog::Watch watch_;  // last: looks at all of the above
};

Dispatcher::Dispatcher(TargetResolver* resolver, Clock* clock,
                       DispatchOptions options)
    : resolver_(resolver),
      clock_(clock),
      options_(options),
      breaker_(clock, options.breaker),
      watchdog_(clock) {}

std::unique_ptr<StreamCall> Dispatcher::Generate(DispatchRequest request,
                                                 DispatchCallbacks callbacks) {
  auto call = std::make_unique<DispatchCall>(this, std::move(request),
                                             std::move(callbacks));
  call->StartNext();
  return call;
}

absl::StatusOr<v1::EmbedResponse> Dispatcher::Embed(
    const v1::EmbedRequest& request, const std::vector<std::string>& experts,
    const registry::Snapshot& snapshot, absl::Time deadline) {
  absl::Status last = Unavailable("no expert can answer");
  int attempts = 0;
  for (const std::string& expert : experts) {
    absl::StatusOr<ResolvedExpert> resolved =
        resolver_->Resolve(snapshot, expert);
    if (!resolved.ok()) {
      last = Annotate(resolved.status(), "expert " + expert);
      continue;
    }
    for (const ResolvedTarget& target : resolved->targets) {
      if (attempts == options_.max_attempts) return last;
      if (absl::Status admitted = breaker_.Admit(target.key); !admitted.ok()) {
        last = Annotate(admitted, "expert " + expert);
        continue;
      }
      ++attempts;
      const absl::Time limit =
          std::min(deadline, clock_->Now() + options_.first_token_timeout);
      auto response = target.target->Embed(request, limit);
      const bool late = clock_->Now() >= deadline;
      breaker_.Report(target.key, Judge(response.status(), late));
      if (response.ok() || !MayRetry(response.status())) return response;
      last = Annotate(response.status(), "expert " + expert);
      if (late) return last;
    }
  }
  return last;
}

}  // namespace conclave::router
