// Computes a step: a plan's rows through the model, and whatever their logits
// are for, up to the chosen tokens.
//
// Threads: none; the engine's own, and the compute team's inside Run.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_STEP_RUNNER_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_STEP_RUNNER_H_

#include <absl/time/time.h>

#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"
#include "expert_workers/engine/answer.h"
#include "expert_workers/engine/compute.h"
#include "expert_workers/engine/forward/language_model.h"
#include "expert_workers/engine/kv_cache.h"
#include "expert_workers/engine/scheduler.h"

namespace conclave::engine {

struct StepOutcome {
  bool done = false;    // false: abandoned, nothing has happened
  absl::Duration took;  // without the time that went to other engines
  // Requests whose prompt could not be scored, or whose rows lacked an expert;
  // one may stand there more than once.
  std::vector<std::pair<ActiveRequest*, absl::Status>> failed;
};

class StepRunner {
 public:
  // `cache` and `compute` outlive it.
  StepRunner(std::unique_ptr<LanguageModel> model, const KvCache* cache,
             Compute* compute);

  int64_t vocab_size() const { return model_->vocab_size(); }

  // The plan's sequences are Answers. `abandon` is asked between layers. Where
  // a sequence reaches its end, its answer has chosen the next token, and one
  // more for each guess that was right (all n answers have chosen, when the
  // prompt ends); scored prompt tokens are in the request.
  StepOutcome Run(const std::vector<Work>& plan,
                  const std::function<bool()>& abandon);

 private:
  // A row of logits and what it is for.
  struct Use {
    Answer* answer = nullptr;
    // The prompt position whose token this row scores; -1: it chooses a token
    // of the answer.
    int64_t scores = -1;
    int64_t guess = 0;    // stands behind so many guesses
    absl::Status status;  // of scoring
  };

  void AddRows(const Work& work);
  // Whose rows failed in the model.
  void NoteFailures(const std::vector<Work>& plan, StepOutcome* outcome) const;
  void UseLogits();
  // Uses [begin, end), of one answer, in order.
  void UseRows(int64_t begin, int64_t end, float* logits);
  static void UseRow(Use& use, std::span<float> logits);

  const std::unique_ptr<LanguageModel> model_;
  const KvCache* const cache_;
  Compute* const compute_;
  Batch batch_;            // of the current step
  std::vector<Use> uses_;  // of batch_.logit_rows
  std::vector<float> logits_;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_STEP_RUNNER_H_
