#include "expert_workers/engine/step_runner.h"

#include <algorithm>

#include "base/clock.h"

namespace conclave::engine {
namespace {

// Rows of logits computed together: bounds the scratch to 16 vocabularies,
// however long a prompt is scored.
constexpr int64_t kLogitRows = 16;

}  // namespace

StepRunner::StepRunner(std::unique_ptr<LanguageModel> model,
                       const KvCache* cache, Compute* compute)
    : model_(std::move(model)), cache_(cache), compute_(compute) {}

StepOutcome StepRunner::Run(const std::vector<Work>& plan,
                            const std::function<bool()>& abandon) {
  batch_ = Batch();
  uses_.clear();
  for (const Work& work : plan) AddRows(work);

  StepOutcome outcome;
  Compute::Turn turn(compute_);
  Clock& clock = Clock::Real();
  const int64_t start = clock.MonotonicNanos();
  int64_t away = 0;
  StepContext step;
  step.compute = compute_;
  step.between_layers = [&] {
    const int64_t before = clock.MonotonicNanos();
    if (turn.Yield()) away += clock.MonotonicNanos() - before;
    return abandon();
  };
  outcome.done = model_->Forward(batch_, *cache_, step);
  if (outcome.done) UseLogits();
  if (outcome.done) NoteFailures(plan, &outcome);
  outcome.took = absl::Nanoseconds(clock.MonotonicNanos() - start - away);
  for (Use& use : uses_) {
    if (use.status.ok()) continue;
    outcome.failed.emplace_back(&use.answer->request(), std::move(use.status));
  }
  return outcome;
}

void StepRunner::NoteFailures(const std::vector<Work>& plan,
                              StepOutcome* outcome) const {
  for (const RowFailure& failure : model_->failures()) {
    for (size_t i = 0; i < plan.size(); ++i) {  // one SequenceRows each
      const SequenceRows& rows = batch_.sequences[i];
      if (failure.row < rows.first_row ||
          failure.row >= rows.first_row + rows.num_rows) {
        continue;
      }
      auto& answer = static_cast<Answer&>(*plan[i].sequence);
      outcome->failed.emplace_back(&answer.request(), failure.status);
    }
  }
}

void StepRunner::AddRows(const Work& work) {
  auto& answer = static_cast<Answer&>(*work.sequence);
  const ActiveRequest& request = answer.request();
  const auto first_row = static_cast<int64_t>(batch_.tokens.size());
  const auto begin = answer.tokens.begin() + work.first;
  batch_.tokens.insert(batch_.tokens.end(), begin, begin + work.count);
  batch_.tokens.insert(batch_.tokens.end(), answer.draft.begin(),
                       answer.draft.begin() + work.guesses);
  batch_.sequences.push_back(
      {first_row, work.count + work.guesses, work.first, &answer.pages});
  const SamplingParams& params = request.request.sampling;
  for (int64_t i = 0; i < work.count; ++i) {
    const int64_t scores = work.first + i + 1;
    if (params.prompt_logprobs && scores < request.prompt_size() &&
        scores >= request.scored) {
      batch_.logit_rows.push_back(first_row + i);
      uses_.push_back({&answer, scores, 0, {}});
    }
  }
  if (work.reaches_end() && params.max_tokens != 0) {
    for (int64_t guess = 0; guess <= work.guesses; ++guess) {
      batch_.logit_rows.push_back(first_row + work.count - 1 + guess);
      uses_.push_back({&answer, -1, guess, {}});
    }
  }
}

void StepRunner::UseLogits() {
  const auto count = static_cast<int64_t>(uses_.size());
  const auto vocab = static_cast<size_t>(model_->vocab_size());
  for (Use& use : uses_) {
    if (use.scores < 0) continue;
    // Made here, so that rows may be scored at the same time.
    use.answer->request().prompt_tokens.resize(static_cast<size_t>(use.scores) +
                                               1);
  }
  for (int64_t begin = 0; begin < count; begin += kLogitRows) {
    const int64_t end = std::min(begin + kLogitRows, count);
    if (logits_.size() < static_cast<size_t>(end - begin) * vocab) {
      logits_.resize(static_cast<size_t>(end - begin) * vocab);
    }
    model_->Logits(begin, end, compute_, logits_.data());
    // Whether a guess was right decides what the row behind it is for: the rows
    // of one answer are used in order, those of several at the same time.
    std::vector<int64_t> starts;
    for (int64_t i = begin; i < end; ++i) {
      if (i == begin || uses_[static_cast<size_t>(i)].guess == 0) {
        starts.push_back(i);
      }
    }
    starts.push_back(end);
    compute_->ParallelFor(
        static_cast<int64_t>(starts.size()) - 1, 1,
        [&](int64_t first, int64_t last) {
          for (auto i = static_cast<size_t>(first);
               i < static_cast<size_t>(last); ++i) {
            UseRows(starts[i], starts[i + 1],
                    logits_.data() +
                        static_cast<size_t>(starts[i] - begin) * vocab);
          }
        });
  }
  for (const Use& use : uses_) {
    if (use.scores >= 0) use.answer->request().SetScored(use.scores + 1);
  }
}

void StepRunner::UseRows(int64_t begin, int64_t end, float* logits) {
  const auto vocab = static_cast<size_t>(model_->vocab_size());
  for (int64_t i = begin; i < end; ++i) {
    UseRow(uses_[static_cast<size_t>(i)],
           {logits + static_cast<size_t>(i - begin) * vocab, vocab});
  }
}

void StepRunner::UseRow(Use& use, std::span<float> logits) {
  ActiveRequest& request = use.answer->request();
  if (use.scores >= 0) {
    const auto at = static_cast<size_t>(use.scores);
    absl::StatusOr<TokenEvent> scored = ScoreToken(
        logits, request.request.prompt[at], request.request.sampling.logprobs);
    if (scored.ok()) {
      request.prompt_tokens[at] = *std::move(scored);
    } else {
      use.status = scored.status();
    }
    return;
  }
  if (!request.forked) {
    // The prompt's end: every answer begins from these logits.
    for (size_t i = 1; i < request.answers.size(); ++i) {
      std::vector<float> copy(logits.begin(), logits.end());
      request.answers[i]->Choose(copy);
    }
  }
  if (use.answer->WantsRow(use.guess)) use.answer->Choose(logits);
}

}  // namespace conclave::engine
