// A request inside the engine, and each of its n answers.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_ANSWER_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_ANSWER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "expert_workers/engine/engine.h"
#include "expert_workers/engine/sampler.h"
#include "expert_workers/engine/sequence.h"
#include "expert_workers/engine/speculation.h"
#include "expert_workers/engine/stop_matcher.h"
#include "expert_workers/tokenizer/incremental_decoder.h"

namespace conclave::engine {

struct ActiveRequest;

// One answer: a sequence, how its tokens are chosen, and how they become text.
class Answer : public Sequence {
 public:
  // `max_total` bounds prompt and output together.
  Answer(ActiveRequest* request, int32_t answer_index,
         const Tokenizer& tokenizer, int64_t max_total);

  ActiveRequest& request() const { return *request_; }
  // Tokens it may have more.
  int64_t tokens_left() const;
  Acceptance acceptance;         // of tokens looked up for it
  bool draft_is_models = false;  // its draft was guessed by a model

  bool finished() const { return event_.finish != FinishReason::kNone; }

  // Chooses the token behind those chosen already; TakeChosen makes them part
  // of the answer. Apart, because answers may choose at the same time.
  void Choose(std::span<float> logits);
  // Whether the row behind `guess` guesses is one that this answer goes
  // through: all of them were chosen, and none ends it.
  bool WantsRow(int64_t guess) const;
  // Returns how many tokens the answer has more.
  int64_t TakeChosen();

  // Ends the answer.
  void Finish(FinishReason reason, absl::Status status = absl::OkStatus());

  // What happened since the last call; the caller has checked HasNews.
  bool HasNews() const;
  EngineEvent TakeEvent();

 private:
  bool EndsAnswer(int32_t token) const;
  void Take(TokenEvent token);
  void FinishText();

  ActiveRequest* const request_;
  const Tokenizer& tokenizer_;
  const int64_t max_total_;
  Sampler sampler_;
  IncrementalDecoder decoder_;
  StopMatcher stops_;
  std::vector<absl::StatusOr<TokenEvent>> chosen_;
  EngineEvent event_;  // since the last TakeEvent
  int64_t output_count_ = 0;
  bool told_ = false;  // the first event is out
  bool told_end_ = false;
};

struct ActiveRequest {
  uint64_t ticket = 0;
  EngineRequest request;
  EventSink sink;
  std::vector<std::unique_ptr<Answer>> answers;
  // Answers 1.. join when the prompt, computed by answer 0, is done.
  bool forked = false;
  // For prompt_logprobs: [0, scored) are known.
  std::vector<TokenEvent> prompt_tokens;
  int64_t scored = 0;
  // Prompt tokens that came from the prefix cache.
  int64_t cached_tokens = 0;

  int64_t prompt_size() const {
    return static_cast<int64_t>(request.prompt.size());
  }
  // The prompt is scored up to here; what comes before may be taken from the
  // prefix cache if it is needed again.
  void SetScored(int64_t end);
  bool finished() const;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_ANSWER_H_
