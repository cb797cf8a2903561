#include "expert_workers/engine/engine.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "expert_workers/engine/admission.h"
#include "expert_workers/engine/answer.h"
#include "expert_workers/engine/draft_model.h"
#include "expert_workers/engine/forward/language_model.h"
#include "expert_workers/engine/kv_cache.h"
#include "expert_workers/engine/ops_choice.h"
#include "expert_workers/engine/prefix_cache.h"
#include "expert_workers/engine/scheduler.h"
#include "expert_workers/engine/speculation.h"
#include "expert_workers/engine/step_pacer.h"
#include "expert_workers/engine/step_runner.h"

namespace conclave::engine {
namespace {

class EngineImpl final : public Engine {
 public:
  EngineImpl(std::unique_ptr<weights::ModelLease> lease,
             std::shared_ptr<const Tokenizer> tokenizer, Compute* compute,
             const EngineOptions& options, std::unique_ptr<LanguageModel> model,
             const KvShape& kv_shape, std::unique_ptr<DraftModel> draft)
      : lease_(std::move(lease)),
        tokenizer_(std::move(tokenizer)),
        options_(options),
        max_context_(MaxContext(*lease_, options)),
        compute_(compute),
        draft_(std::move(draft)),
        cache_(kv_shape, options.kv_budget_bytes -
                             (draft_ == nullptr ? 0 : draft_->kv_bytes())),
        prefixes_(options.prefix_cache ? std::make_unique<PrefixCache>(&cache_)
                                       : nullptr),
        runner_(std::move(model), &cache_, compute),
        pacer_({.max_tokens = options.prefill_chunk}),
        speculator_(options.max_draft, options.paced),
        scheduler_(
            options.max_batch,
            [this](int64_t generating) { return PromptTokens(generating); },
            &cache_, prefixes_.get()) {
    stats_.kv_pages_total = cache_.total_pages();
    stats_.has_draft_model = draft_ != nullptr;
    thread_ = std::thread([this] { Run(); });
  }

  ~EngineImpl() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      abandon_.store(true);
    }
    news_.notify_one();
    thread_.join();
  }

  absl::StatusOr<uint64_t> Submit(EngineRequest request,
                                  EventSink sink) override {
    RETURN_IF_ERROR(
        CheckRequest(request, runner_.vocab_size(), max_context_, cache_));
    auto active = std::make_unique<ActiveRequest>();
    active->request = std::move(request);
    active->sink = std::move(sink);
    uint64_t ticket = 0;
    {
      std::lock_guard lock(mutex_);
      const int64_t open_slots =
          std::max<int64_t>(options_.max_batch - stats_.running, 0);
      const int64_t pending =
          static_cast<int64_t>(inbox_.size()) + stats_.waiting;
      if (pending >= options_.max_waiting + open_slots) {
        return ResourceExhausted(
            "the queue is full: {} requests wait, {} may; {} are running",
            pending, options_.max_waiting, stats_.running);
      }
      ticket = next_ticket_++;
      active->ticket = ticket;
      live_.insert(ticket);
      inbox_.push_back(std::move(active));
    }
    news_.notify_one();
    return ticket;
  }

  void Cancel(uint64_t ticket) override {
    {
      std::lock_guard lock(mutex_);
      if (!live_.contains(ticket)) return;
      cancels_.push_back(ticket);
      if (in_prompt_.contains(ticket)) abandon_.store(true);
    }
    news_.notify_one();
  }

  EngineStats Stats() const override {
    std::lock_guard lock(mutex_);
    EngineStats stats = stats_;
    stats.waiting += static_cast<int64_t>(inbox_.size());
    if (lease_->experts() != nullptr)
      stats.experts = lease_->experts()->Stats();
    return stats;
  }

  int64_t max_context() const override { return max_context_; }

 private:
  static int64_t MaxContext(const weights::ModelLease& lease,
                            const EngineOptions& options) {
    const int64_t model = lease.manifest().spec.hyperparameters.max_context;
    return options.max_context == 0 ? model
                                    : std::min(model, options.max_context);
  }

  // Prompt and output may be this long together: context and cache.
  int64_t MaxTotal() const {
    return std::min(max_context_,
                    cache_.total_pages() * kernels::kKvPageTokens);
  }

  int64_t PromptTokens(int64_t generating) const {
    const int64_t most = options_.prefill_chunk;
    if (options_.paced) return pacer_.PromptTokens(generating);
    return generating == 0 ? most : std::max<int64_t>(most / 8, 1);
  }

  void Run() {
    for (;;) {
      std::vector<std::unique_ptr<ActiveRequest>> arrived;
      std::vector<uint64_t> cancels;
      {
        std::unique_lock lock(mutex_);
        UpdateStats();
        news_.wait(lock, [this] {
          return stop_ || !inbox_.empty() || !cancels_.empty() ||
                 !active_.empty();
        });
        if (stop_) break;
        arrived.swap(inbox_);
        cancels.swap(cancels_);
        // Counted as waiting from here, not from the next look at them.
        stats_.waiting += static_cast<int64_t>(arrived.size());
      }
      for (auto& request : arrived) Start(std::move(request));
      for (const uint64_t ticket : cancels) {
        const auto it = active_.find(ticket);
        if (it != active_.end()) End(*it->second, FinishReason::kCancelled);
      }
      EndExpired();
      Deliver();
      Step();
      Deliver();
    }
    std::vector<std::unique_ptr<ActiveRequest>> arrived;
    {
      std::lock_guard lock(mutex_);
      arrived.swap(inbox_);
    }
    for (auto& request : arrived) Start(std::move(request));
    for (auto& [ticket, request] : active_) {
      End(*request, FinishReason::kCancelled);
    }
    Deliver();
  }

  void UpdateStats() {
    stats_.running = scheduler_.num_running();
    stats_.waiting = scheduler_.num_waiting();
    stats_.kv_pages_used = cache_.used_pages();
    if (prefixes_ != nullptr) stats_.prefix = prefixes_->stats();
    stats_.prompt_tokens = prompt_tokens_;
    stats_.generated_tokens = generated_tokens_;
    stats_.draft_tokens = draft_tokens_;
    stats_.accepted_tokens = accepted_tokens_;
    stats_.finished_requests = finished_requests_;
    stats_.cancelled_requests = cancelled_requests_;
    stats_.preemptions = scheduler_.preemptions();
  }

  void Start(std::unique_ptr<ActiveRequest> request) {
    for (int32_t i = 0; i < request->request.sampling.n; ++i) {
      request->answers.push_back(
          std::make_unique<Answer>(request.get(), i, *tokenizer_, MaxTotal()));
    }
    scheduler_.Add(request->answers[0].get());
    active_.emplace(request->ticket, std::move(request));
  }

  void End(ActiveRequest& request, FinishReason reason,
           const absl::Status& status = absl::OkStatus()) {
    for (auto& answer : request.answers) {
      answer->Finish(reason, status);
      scheduler_.Remove(answer.get());
    }
    if (reason == FinishReason::kCancelled) ++cancelled_requests_;
  }

  void EndExpired() {
    const absl::Time now = Clock::Real().Now();
    for (auto& [ticket, request] : active_) {
      if (request->request.deadline <= now) {
        End(*request, FinishReason::kError,
            DeadlineExceeded("the request's deadline passed"));
      }
    }
  }

  // Computes one step, up to the chosen tokens.
  void Step() {
    drafting_ = absl::ZeroDuration();
    Guess();
    std::vector<Work> plan = scheduler_.Plan();
    if (plan.empty()) return;
    const absl::Time deadline = BeginStep(plan);
    const StepOutcome outcome = runner_.Run(plan, [&] {
      // Never twice in a row, so that nobody can stop the others.
      return !abandoned_ && (abandon_.load(std::memory_order_relaxed) ||
                             (deadline != absl::InfiniteFuture() &&
                              Clock::Real().Now() >= deadline));
    });
    abandoned_ = !outcome.done;
    if (abandoned_) return;
    // Before the rest is committed: what a failed one has written is no prefix.
    for (const auto& [request, status] : outcome.failed) {
      if (!request->finished()) End(*request, FinishReason::kError, status);
    }
    std::erase_if(plan, [](const Work& work) {
      return static_cast<const Answer&>(*work.sequence).request().finished();
    });
    scheduler_.Commit(plan);
    Account(plan, outcome.took);
    const int64_t before = generated_tokens_;
    for (const Work& work : plan) {
      if (work.reaches_end()) {
        TakeTokens(static_cast<Answer&>(*work.sequence), work.guesses);
      }
    }
    if (draft_ != nullptr) {
      ObservePayoff(plan, generated_tokens_ - before, outcome.took);
    }
  }

  // Drafts for what is about to generate.
  void Guess() {
    if (options_.max_draft == 0) return;
    std::vector<Answer*> generating;
    for (auto& [ticket, request] : active_) {
      for (auto& answer : request->answers) {
        answer->draft.clear();
        answer->draft_is_models = false;
        // A prompt may have one token left, too: its end is where the answers
        // part, and no place to guess.
        if (request->forked && answer->running && answer->uncomputed() == 1) {
          generating.push_back(answer.get());
        }
      }
    }
    for (Answer* answer : generating) {
      // One token is chosen behind the last guess.
      answer->draft = speculator_.Draft(answer->tokens, answer->acceptance,
                                        static_cast<int64_t>(generating.size()),
                                        answer->tokens_left() - 1);
    }
    if (draft_ != nullptr) AskDraftModel(generating);
  }

  // For those of `generating` for whom nothing was looked up.
  void AskDraftModel(const std::vector<Answer*>& generating) {
    const auto count = static_cast<int64_t>(generating.size());
    if (count > DraftModel::kMaxAnswers) return;
    // Beside a prompt that runs the scheduler checks no guesses; one that waits
    // for a slot takes nothing.
    for (const auto& [ticket, request] : active_) {
      for (const auto& answer : request->answers) {
        if (answer->running && answer->uncomputed() > 1) return;
      }
    }
    std::vector<Answer*> asking;
    for (Answer* answer : generating) {
      if (answer->draft.empty()) asking.push_back(answer);
    }
    std::vector<DraftWish> wishes;
    std::vector<Answer*> wishing;
    for (Answer* answer : asking) {
      const int64_t guesses = speculator_.CountForModel(
          model_acceptance_, static_cast<int64_t>(asking.size()), count,
          answer->tokens_left() - 1, draft_->step_time());
      if (guesses < 1) continue;
      wishes.push_back({.answer = answer->key(),
                        .tokens = answer->tokens,
                        .count = guesses});
      wishing.push_back(answer);
    }
    if (wishes.empty()) return;
    const int64_t start = Clock::Real().MonotonicNanos();
    draft_->Draft(wishes, compute_);
    drafting_ = absl::Nanoseconds(Clock::Real().MonotonicNanos() - start);
    for (size_t i = 0; i < wishes.size(); ++i) {
      wishing[i]->draft = std::move(wishes[i].guesses);
      wishing[i]->draft_is_models = true;
    }
  }

  // From here on, cancelling a request that computes its prompt abandons the
  // step; a step that only generates is short. Returns the earliest deadline
  // among those prompts.
  absl::Time BeginStep(const std::vector<Work>& plan) {
    absl::Time deadline = absl::InfiniteFuture();
    std::lock_guard lock(mutex_);
    in_prompt_.clear();
    for (const Work& work : plan) {
      if (work.count == 1) continue;
      const ActiveRequest& request =
          static_cast<Answer*>(work.sequence)->request();
      in_prompt_.insert(request.ticket);
      deadline = std::min(deadline, request.request.deadline);
    }
    abandon_.store(stop_ || std::any_of(cancels_.begin(), cancels_.end(),
                                        [this](uint64_t ticket) {
                                          return in_prompt_.contains(ticket);
                                        }));
    return deadline;
  }

  void Account(const std::vector<Work>& plan, absl::Duration took) {
    int64_t generating = 0;
    int64_t prompts = 0;
    int64_t guesses = 0;
    for (const Work& work : plan) {
      guesses += work.guesses;
      auto& answer = static_cast<Answer&>(*work.sequence);
      ActiveRequest& request = answer.request();
      const int64_t prompt = request.prompt_size();
      prompt_tokens_ += std::clamp<int64_t>(prompt - work.first, 0, work.count);
      if (!request.forked && answer.preemptions == 0) {
        request.cached_tokens = std::min(answer.reused, prompt);
      }
      if (work.count == 1 && work.first + 1 == answer.size()) {
        ++generating;
      } else {
        prompts += work.count;
      }
    }
    if (guesses == 0) pacer_.Observe(generating, prompts, took);
    if (prompts == 0) speculator_.Observe(generating + guesses, took);
  }

  // After the chosen tokens were taken.
  void ObservePayoff(const std::vector<Work>& plan, int64_t generated,
                     absl::Duration took) {
    for (const Work& work : plan) {
      const auto& answer = static_cast<const Answer&>(*work.sequence);
      const bool looked_up = work.guesses > 0 && !answer.draft_is_models;
      if (!work.reaches_end() || work.count > 1 || looked_up) return;
    }
    if (plan.size() > DraftModel::kMaxAnswers) return;
    const double tokens =
        static_cast<double>(generated) / static_cast<double>(plan.size());
    if (drafting_ > absl::ZeroDuration()) {
      speculator_.payoff().ObserveModel(tokens, took + drafting_);
    } else {
      speculator_.payoff().ObservePlain(tokens, took);
    }
  }

  // The answer's sequence is computed to its end: takes what was chosen.
  void TakeTokens(Answer& answer, int64_t guesses) {
    ActiveRequest& request = answer.request();
    if (request.finished()) return;  // scoring failed
    if (request.request.sampling.prompt_logprobs && request.scored == 0) {
      // A prompt of one token: nothing predicts it.
      request.prompt_tokens.resize(1);
    }
    if (!request.prompt_tokens.empty()) {
      request.prompt_tokens[0].token = request.request.prompt[0];
    }
    if (request.request.sampling.max_tokens == 0) {
      End(request, FinishReason::kLength);
      return;
    }
    const bool first = !request.forked;
    request.forked = true;
    Take(answer, guesses);
    if (first) {
      for (size_t i = 1; i < request.answers.size(); ++i) {
        Take(*request.answers[i], 0);
        if (!request.answers[i]->finished()) {
          // Shares answer 0's pages, if that still runs.
          if (answer.finished()) {
            scheduler_.Add(request.answers[i].get());
          } else {
            scheduler_.AddFork(answer, answer.computed,
                               request.answers[i].get());
          }
        }
      }
    }
  }

  void Take(Answer& answer, int64_t guesses) {
    const int64_t taken = answer.TakeChosen();
    generated_tokens_ += taken;
    if (guesses > 0) {
      const int64_t accepted = std::max<int64_t>(taken - 1, 0);
      (answer.draft_is_models ? model_acceptance_ : answer.acceptance)
          .Observe(guesses, accepted);
      draft_tokens_ += guesses;
      accepted_tokens_ += accepted;
      if (accepted > 0) scheduler_.Accept(&answer, accepted);
    } else {
      answer.acceptance.Rest();
      model_acceptance_.Rest();
    }
    if (answer.finished()) scheduler_.Remove(&answer);
  }

  void Deliver() {
    for (auto it = active_.begin(); it != active_.end();) {
      ActiveRequest& request = *it->second;
      for (auto& answer : request.answers) {
        if (answer->HasNews()) request.sink(answer->TakeEvent());
      }
      if (request.finished()) {
        ++finished_requests_;
        if (draft_ != nullptr) {
          for (auto& answer : request.answers) draft_->Forget(answer->key());
        }
        {
          std::lock_guard lock(mutex_);
          live_.erase(it->first);
        }
        it = active_.erase(it);
      } else {
        ++it;
      }
    }
  }

  const std::unique_ptr<weights::ModelLease> lease_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const EngineOptions options_;
  const int64_t max_context_;
  Compute* const compute_;

  // The engine thread's own.
  const std::unique_ptr<DraftModel> draft_;  // may be null
  Acceptance model_acceptance_{kDraftModelPrior};
  absl::Duration drafting_;  // what it took for the current step
  KvCache cache_;
  const std::unique_ptr<PrefixCache> prefixes_;
  StepRunner runner_;
  StepPacer pacer_;
  Speculator speculator_;
  Scheduler scheduler_;
  std::map<uint64_t, std::unique_ptr<ActiveRequest>> active_;
  bool abandoned_ = false;  // the last step was
  int64_t prompt_tokens_ = 0;
  int64_t generated_tokens_ = 0;
  int64_t draft_tokens_ = 0;
  int64_t accepted_tokens_ = 0;
  int64_t finished_requests_ = 0;
  int64_t cancelled_requests_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::vector<std::unique_ptr<ActiveRequest>> inbox_;
  std::vector<uint64_t> cancels_;
  std::set<uint64_t> live_;  // tickets that have not ended
  uint64_t next_ticket_ = 1;
  bool stop_ = false;
  EngineStats stats_;
  std::set<uint64_t> in_prompt_;      // tickets whose prompt is in this step
  std::atomic<bool> abandon_{false};  // this step; set under the mutex

  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    std::unique_ptr<weights::ModelLease> lease,
    std::shared_ptr<const Tokenizer> tokenizer, Compute* compute,
    EngineOptions options, std::unique_ptr<weights::ModelLease> draft) {
  RETURN_IF_ERROR(CheckOptions(options));
  ASSIGN_OR_RETURN(const kernels::Ops* ops,
                   ChooseOps(options.reference_path, options.isa));
  ASSIGN_OR_RETURN(std::unique_ptr<LanguageModel> model,
                   LanguageModel::Create(*lease, *ops));
  const kernels::KvType kv_type =
      options.reference_path ? kernels::KvType::kF32 : kernels::KvType::kF16;
  const KvShape shape = model->kv_shape(kv_type);
  std::unique_ptr<DraftModel> draft_model;
  if (draft != nullptr) {
    ASSIGN_OR_RETURN(draft_model,
                     DraftModel::Create(std::move(draft), lease->manifest(),
                                        *ops, kv_type, options.max_draft));
    // Guesses are for speed: a budget that does not hold both goes to answers.
    if (options.kv_budget_bytes - draft_model->kv_bytes() < shape.PageBytes()) {
      draft_model.reset();
    }
  }
  if (options.kv_budget_bytes < shape.PageBytes()) {
    return InvalidArgument("the KV budget of {} bytes holds no page of {}",
                           options.kv_budget_bytes, shape.PageBytes());
  }
  return std::unique_ptr<Engine>(std::make_unique<EngineImpl>(
      std::move(lease), std::move(tokenizer), compute, options,
      std::move(model), shape, std::move(draft_model)));
}

}  // namespace conclave::engine
