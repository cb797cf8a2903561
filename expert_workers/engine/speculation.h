// Guessing an answer's next tokens, so that one pass over the weights checks
// several: the rows of a step share it, and a row's bits do not depend on the
// others. What is chosen is what would have been chosen without guesses.
//
// The guesses are what followed the last tokens where they stood before, in the
// prompt or in the answer ("prompt lookup"): edited code, quoted text, tables.
// Where there is nothing to look up, a smaller model may guess
// (draft_model.h).
//
// How many are worth it:
//   tokens(k) = 1 + a + a^2 + .. + a^k   expected of a step with k guesses, a =
//                                        how often they are right
//   time(r)   = base + slope r           of a step with r rows, as measured
//   guess                                what a guess takes; nothing, looked up
// k makes (n - 1 + tokens(k)) / (time(n + k) + k guess) largest, n sequences
// generating. Time decides only how many are tried.
//
// Threads: none; the engine's own.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_SPECULATION_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_SPECULATION_H_

#include <absl/time/time.h>

#include <cstdint>
#include <span>
#include <vector>

#include "expert_workers/engine/step_time.h"

namespace conclave::engine {

// How often guesses are right; recent ones count more.
class Acceptance {
 public:
  struct Prior {
    double right = 3;
    double tried = 4;
    double keep = 0.9;           // what is learnt counts when more has come
    double keep_at_rest = 0.98;  // and when a step has guessed nothing
  };
  // Of an answer's lookups: a match of several tokens is a good sign.
  Acceptance() : Acceptance(Prior()) {}
  explicit Acceptance(const Prior& prior)
      : prior_(prior), right_(prior.right), tried_(prior.tried) {}

  // `guesses` were checked in order, and the first `accepted` were right.
  void Observe(int64_t guesses, int64_t accepted);
  // Nothing was guessed: what was learnt counts a little less, so that a bad
  // stretch is not held against the answer for ever.
  void Rest();
  // Of one guess, provided that those before it are right; in (0, 1).
  double rate() const { return right_ / tried_; }

 private:
  Prior prior_;
  double right_;
  double tried_;
};

// Of a draft model, for all answers: it is tried at first, and then no more
// than once in hundreds of steps where it does not pay.
inline constexpr Acceptance::Prior kDraftModelPrior = {
    .right = 9, .tried = 10, .keep = 0.98, .keep_at_rest = 0.999};

// The `count` tokens that followed the longest earlier occurrence of the end of
// `tokens` (the latest of equals), repeated where they reach that end. Empty
// when no occurrence is as long as kMinMatch.
inline constexpr int64_t kMinMatch = 3;
inline constexpr int64_t kMaxMatch = 16;  // longer ones are not told apart
std::vector<int32_t> LookUp(std::span<const int32_t> tokens, int64_t count);

// Whether a draft model pays: tokens per second with it and without, all it
// costs included (reading what it had not read, steps for nothing).
//
// Plain steps are measured first, then some with the model; the faster goes on,
// and after `kAgain` plain steps the model has another trial.
class Payoff {
 public:
  // A step gave `tokens` for each answer; `took` includes the model's time.
  void ObservePlain(double tokens, absl::Duration took);
  void ObserveModel(double tokens, absl::Duration took);
  bool UseModel() const;

  static constexpr int64_t kPlainFirst = 16;  // steps
  static constexpr int64_t kTrial = 64;  // long enough to make up for reading
  static constexpr int64_t kAgain = 2000;

 private:
  struct Rate {
    int64_t steps = 0;
    double tokens = 0;
    double seconds = 0;
    void Observe(double more, absl::Duration took);
    double Of() const { return tokens / seconds; }
  };
  Rate plain_;
  Rate model_;
  int64_t plain_since_ = 0;  // steps since the model was last used
};

class Speculator {
 public:
  // `paced`: as many as the measured times make worth it; else always the most.
  Speculator(int64_t max_draft, bool paced)
      : max_draft_(max_draft), paced_(paced) {}

  // Looked-up guesses for an answer that is one of `generating`; at most
  // `limit`.
  std::vector<int32_t> Draft(std::span<const int32_t> tokens,
                             const Acceptance& acceptance, int64_t generating,
                             int64_t limit) const;
  // How many to ask of a draft model with the steps `draft_time`, when
  // `answers` of `generating` ask it together; 0 until a step of the large one
  // was measured, or where it does not pay.
  int64_t CountForModel(const Acceptance& acceptance, int64_t answers,
                        int64_t generating, int64_t limit,
                        const StepTime& draft_time) const;
  // A step of `rows` rows, none of a prompt, took `took`.
  void Observe(int64_t rows, absl::Duration took) {
    step_time_.Observe(rows, took);
  }
  Payoff& payoff() { return payoff_; }

 private:
  int64_t BestCount(double acceptance, int64_t generating, int64_t limit,
                    double guess) const;

  const int64_t max_draft_;
  const bool paced_;
  StepTime step_time_;
  Payoff payoff_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_SPECULATION_H_
