#include "expert_workers/wire.h"

#include <string>

namespace conclave::workers {
namespace {

void SetToken(int32_t token, float logprob, const engine::Tokenizer& tokenizer,
              v1::TokenLogprob* message) {
  message->set_token(token);
  message->set_logprob(logprob);
  const std::string_view bytes = tokenizer.TokenBytes(token);
  message->set_text(std::string(bytes));
}

}  // namespace

absl::StatusOr<engine::SamplingParams> FromProto(
    const v1::SamplingParams& message) {
  engine::SamplingParams params;
  if (message.has_temperature()) params.temperature = message.temperature();
  if (message.has_top_k()) params.top_k = message.top_k();
  if (message.has_top_p()) params.top_p = message.top_p();
  if (message.has_min_p()) params.min_p = message.min_p();
  if (message.has_repetition_penalty()) {
    params.repetition_penalty = message.repetition_penalty();
  }
  if (message.has_presence_penalty()) {
    params.presence_penalty = message.presence_penalty();
  }
  if (message.has_frequency_penalty()) {
    params.frequency_penalty = message.frequency_penalty();
  }
  for (const auto& [token, bias] : message.logit_bias()) {
    params.logit_bias[token] = bias;
  }
  if (message.has_seed()) params.seed = message.seed();
  params.stop.assign(message.stop().begin(), message.stop().end());
  if (message.has_max_tokens()) {
    if (message.max_tokens() < 0) {
      return InvalidArgument("max_tokens is {}; it must be 0 or more",
                             message.max_tokens());
    }
    params.max_tokens = message.max_tokens();
  }
  if (message.has_logprobs()) {
    if (message.logprobs() < 0) {
      return InvalidArgument("logprobs is {}; it must be 0..20",
                             message.logprobs());
    }
    params.logprobs = message.logprobs();
  }
  params.prompt_logprobs = message.echo() && params.logprobs >= 0;
  params.ignore_eos = message.ignore_eos();
  if (message.has_n()) params.n = message.n();
  RETURN_IF_ERROR(engine::CheckSamplingParams(params));
  return params;
}

v1::TokenLogprob ToProto(const engine::TokenEvent& event,
                         const engine::Tokenizer& tokenizer) {
  v1::TokenLogprob message;
  SetToken(event.token, event.logprob, tokenizer, &message);
  for (const engine::TokenLogprob& other : event.top) {
    SetToken(other.token, other.logprob, tokenizer, message.add_top());
  }
  return message;
}

v1::GenerateEvent ToDelta(const engine::EngineEvent& event,
                          const engine::Tokenizer& tokenizer, bool logprobs) {
  v1::GenerateEvent message;
  v1::GenerateEvent::Delta* delta = message.mutable_delta();
  delta->set_index(event.index);
  delta->set_text(event.text);
  for (const engine::TokenEvent& token : event.tokens) {
    delta->add_tokens(token.token);
    if (logprobs) *delta->add_logprobs() = ToProto(token, tokenizer);
  }
  return message;
}

const char* ReasonName(engine::FinishReason reason) {
  switch (reason) {
    case engine::FinishReason::kStop:
      return "stop";
    case engine::FinishReason::kLength:
      return "length";
    case engine::FinishReason::kCancelled:
      return "cancelled";
    case engine::FinishReason::kNone:
    case engine::FinishReason::kError:
      break;
  }
  return "";
}

}  // namespace conclave::workers
