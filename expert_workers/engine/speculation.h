// Guessing an answer's next tokens, so that one pass over the weights checks
// several: the rows of a step share it, and a row's bits do not depend on the
// others. What is chosen is what would have been chosen without guesses.
//
// The guesses are what followed the last tokens where they stood before, in the
// prompt or in the answer ("prompt lookup"): edited code, quoted text, tables.
//
// How many are worth it:
//   tokens(k) = 1 + a + a^2 + .. + a^k   expected of a step with k guesses, a =
//                                        how often this answer's are right
//   time(r)   = base + slope r           of a step with r rows, as measured
// k makes (n - 1 + tokens(k)) / time(n + k) largest, n sequences generating.
// Time decides only how many are tried.
//
// Threads: none; the engine's own.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_SPECULATION_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_SPECULATION_H_

#include <absl/time/time.h>

#include <cstdint>
#include <span>
#include <vector>

namespace conclave::engine {

// How often one answer's guesses are right; recent ones count more.
class Acceptance {
 public:
  // `guesses` were checked in order, and the first `accepted` were right.
  void Observe(int64_t guesses, int64_t accepted);
  // Nothing was guessed: what was learnt counts a little less, so that a bad
  // stretch is not held against the answer for ever.
  void Rest();
  // Of one guess, provided that those before it are right; in (0, 1).
  double rate() const { return right_ / tried_; }

 private:
  // Begins as three of four: a match of several tokens is a good sign.
  static constexpr double kRight = 3;
  static constexpr double kTried = 4;
  double right_ = kRight;
  double tried_ = kTried;
};

// The `count` tokens that followed the longest earlier occurrence of the end of
// `tokens` (the latest of equals), repeated where they reach that end. Empty
// when no occurrence is as long as kMinMatch.
inline constexpr int64_t kMinMatch = 3;
inline constexpr int64_t kMaxMatch = 16;  // longer ones are not told apart
std::vector<int32_t> LookUp(std::span<const int32_t> tokens, int64_t count);

class Speculator {
 public:
  // `paced`: as many as the measured times make worth it; else always the most.
  Speculator(int64_t max_draft, bool paced)
      : max_draft_(max_draft), paced_(paced) {}

  // Guesses for an answer that is one of `generating`; at most `limit`.
  std::vector<int32_t> Draft(std::span<const int32_t> tokens,
                             const Acceptance& acceptance, int64_t generating,
                             int64_t limit) const;
  // A step of `rows` rows, none of a prompt, took `took`.
  void Observe(int64_t rows, absl::Duration took);

 private:
  // time(rows), in units of which only ratios matter.
  double Cost(double rows) const;
  int64_t BestCount(double acceptance, int64_t generating, int64_t limit) const;

  const int64_t max_draft_;
  const bool paced_;
  // Sums for a line through (rows, time), recent steps counting more.
  double weight_ = 0, rows_ = 0, time_ = 0, rows_rows_ = 0, rows_time_ = 0;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_SPECULATION_H_
