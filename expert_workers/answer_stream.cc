#include "expert_workers/answer_stream.h"

#include <algorithm>
#include <utility>

#include "expert_workers/wire.h"

namespace conclave::workers {

AnswerStream::AnswerStream(Start start,
                           std::shared_ptr<const engine::Tokenizer> tokenizer,
                           StreamCallbacks callbacks)
    : start_(std::move(start)),
      tokenizer_(std::move(tokenizer)),
      callbacks_(std::move(callbacks)) {}

bool AnswerStream::Take(const engine::EngineEvent& event,
                        const absl::Status& cancelled) {
  cached_tokens_ = std::max(cached_tokens_, event.cached_token_count);
  const bool error = event.finish == engine::FinishReason::kError;
  if (error && status_.ok()) {
    status_ = event.status.ok() ? Internal("the engine gave no reason")
                                : event.status;
  }
  if (!started_ && !error) SendStarted(event);
  if (!event.text.empty() || !event.tokens.empty()) {
    callbacks_.on_event(ToDelta(event, *tokenizer_, start_.logprobs));
  }
  if (event.finish == engine::FinishReason::kNone) return false;
  if (!error) {
    v1::GenerateEvent message;
    message.mutable_finished()->set_index(event.index);
    message.mutable_finished()->set_reason(ReasonName(event.finish));
    callbacks_.on_event(message);
  }
  cancelled_ = cancelled_ || event.finish == engine::FinishReason::kCancelled;
  output_tokens_ += event.output_token_count;
  if (++finished_ < start_.n) return false;
  if (status_.ok()) SendUsage();
  if (status_.ok() && cancelled_) status_ = cancelled;
  callbacks_.on_done(status_);
  return true;
}

void AnswerStream::Fail(absl::Status status) {
  callbacks_.on_done(std::move(status));
}

void AnswerStream::SendStarted(const engine::EngineEvent& first) {
  started_ = true;
  v1::GenerateEvent message;
  v1::GenerateEvent::Started* started = message.mutable_started();
  started->set_request_id(start_.request_id);
  started->set_model(start_.version);
  started->set_prompt_tokens(start_.prompt_tokens);
  if (start_.echo) started->set_prompt_text(start_.prompt_text);
  for (const engine::TokenEvent& token : first.prompt_tokens) {
    *started->add_prompt_logprobs() = ToProto(token, *tokenizer_);
  }
  callbacks_.on_event(message);
}

void AnswerStream::SendUsage() {
  v1::GenerateEvent message;
  message.mutable_usage()->set_prompt_tokens(start_.prompt_tokens);
  message.mutable_usage()->set_completion_tokens(output_tokens_);
  message.mutable_usage()->set_cached_tokens(cached_tokens_);
  callbacks_.on_event(message);
}

}  // namespace conclave::workers
