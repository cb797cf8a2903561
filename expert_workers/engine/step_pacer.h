// How many prompt tokens a step may hold, from how long steps have taken.
//
// A step's rows share one pass over the weights, so prompt tokens beside
// answers are cheap; but every one of them makes the answers' next token
// later. The bounds:
//
//   alone   as many as take `alone`: whoever arrives or cancels waits for the
//           step's end at worst
//   beside  as many as make the step `stretch` times as long as it would be
//           without them
//
// Costs are smoothed measurements: of a step without prompt tokens, for each
// number of generating sequences, and of one more prompt token. Time decides
// only how work is cut into steps; the bits do not depend on that.
//
// Threads: none; the engine's own.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_STEP_PACER_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_STEP_PACER_H_

#include <absl/time/time.h>

#include <cstdint>
#include <map>

namespace conclave::engine {

struct StepPacerOptions {
  int64_t max_tokens = 256;
  // Fewer rows than this make each of them dearer: the weights are read for
  // every step.
  int64_t min_alone = 32;
  absl::Duration alone = absl::Milliseconds(100);
  double stretch = 1.75;
};

class StepPacer {
 public:
  explicit StepPacer(const StepPacerOptions& options);

  // For the next step, beside `generating` sequences. 0 only beside some: a
  // step without prompt tokens is wanted, to know its time.
  int64_t PromptTokens(int64_t generating) const;
  // A step took `took`.
  void Observe(int64_t generating, int64_t prompt_tokens, absl::Duration took);

 private:
  struct Generation {
    double us = 0;    // 0: not known
    int64_t age = 0;  // steps with prompt tokens since it was measured
  };

  const StepPacerOptions options_;
  double alone_us_ = 0;  // of a prompt token; 0: not known
  double beside_us_ = 0;
  std::map<int64_t, Generation> generation_;  // by number of sequences
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_STEP_PACER_H_
