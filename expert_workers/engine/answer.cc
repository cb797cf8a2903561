#include "expert_workers/engine/answer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/hash.h"

namespace conclave::engine {
namespace {

uint64_t SeedOf(const EngineRequest& request) {
  return request.sampling.seed.value_or(Xxh3_64(request.request_id));
}

}  // namespace

Answer::Answer(ActiveRequest* request, int32_t answer_index,
               const Tokenizer& tokenizer, int64_t max_total)
    : request_(request),
      tokenizer_(tokenizer),
      max_total_(max_total),
      sampler_(request->request.sampling, SeedOf(request->request),
               answer_index, request->request.prompt),
      decoder_(tokenizer),
      stops_(request->request.sampling.stop) {
  arrival = request->ticket;
  index = answer_index;
  tenant = request->request.tenant;
  tokens = request->request.prompt;
  if (request->request.sampling.prompt_logprobs) reusable = 0;
  event_.index = answer_index;
}

void Answer::Choose(std::span<float> logits) {
  chosen_.push_back(sampler_.Sample(
      logits, static_cast<int64_t>(tokens.size() + chosen_.size())));
}

bool Answer::WantsRow(int64_t guess) const {
  if (static_cast<int64_t>(chosen_.size()) != guess) return false;
  if (guess == 0) return true;
  const absl::StatusOr<TokenEvent>& last = chosen_.back();
  return last.ok() && last->token == draft[static_cast<size_t>(guess - 1)] &&
         !EndsAnswer(last->token);
}

bool Answer::EndsAnswer(int32_t token) const {
  return !request_->request.sampling.ignore_eos &&
         tokenizer_.IsEndOfTurn(token);
}

int64_t Answer::TakeChosen() {
  CHECK(!finished() && !chosen_.empty());
  int64_t taken = 0;
  for (absl::StatusOr<TokenEvent>& token : std::exchange(chosen_, {})) {
    if (!token.ok()) {
      Finish(FinishReason::kError, token.status());
      break;
    }
    Take(*std::move(token));
    ++taken;
    if (finished()) break;
  }
  return taken;
}

void Answer::Take(TokenEvent token) {
  tokens.push_back(token.token);
  ++output_count_;
  const SamplingParams& params = request_->request.sampling;
  if (EndsAnswer(token.token)) {
    FinishText();
    event_.finish = FinishReason::kStop;
    return;
  }
  event_.text += stops_.Push(decoder_.Push(token.token));
  event_.tokens.push_back(std::move(token));
  if (stops_.stopped()) {
    event_.finish = FinishReason::kStop;
  } else if (output_count_ == params.max_tokens ||
             static_cast<int64_t>(tokens.size()) >= max_total_) {
    FinishText();
    event_.finish =
        stops_.stopped() ? FinishReason::kStop : FinishReason::kLength;
  }
}

int64_t Answer::tokens_left() const {
  const int64_t asked = request_->request.sampling.max_tokens;
  const int64_t most = max_total_ - size();
  return asked < 0 ? most : std::min(most, asked - output_count_);
}

void Answer::Finish(FinishReason reason, absl::Status status) {
  if (finished()) return;
  FinishText();
  event_.finish = reason;
  event_.status = std::move(status);
}

void Answer::FinishText() {
  event_.text += stops_.Push(decoder_.Finish());
  event_.text += stops_.Finish();
}

bool Answer::HasNews() const {
  return !told_end_ &&
         (finished() || !event_.text.empty() || !event_.tokens.empty());
}

EngineEvent Answer::TakeEvent() {
  event_.prompt_token_count = request_->prompt_size();
  event_.cached_token_count = request_->cached_tokens;
  event_.output_token_count = output_count_;
  if (!told_ && request_->request.sampling.prompt_logprobs) {
    event_.prompt_tokens = request_->prompt_tokens;
  }
  told_ = true;
  told_end_ = finished();
  EngineEvent out = std::move(event_);
  event_ = EngineEvent{};
  event_.index = out.index;
  event_.finish = out.finish;
  return out;
}

void ActiveRequest::SetScored(int64_t end) {
  scored = end;
  for (const auto& answer : answers) {
    // The row before a token scores it.
    answer->reusable =
        end == prompt_size() ? std::numeric_limits<int64_t>::max() : end - 1;
  }
}

bool ActiveRequest::finished() const {
  return std::all_of(answers.begin(), answers.end(),
                     [](const auto& answer) { return answer->finished(); });
}

}  // namespace conclave::engine
