#include "router_service/gateway/fake_router_client.h"

#include <absl/time/clock.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "base/hash.h"

namespace conclave::router {
namespace {

// "é" is two byte tokens, so that streams meet characters split in two.
constexpr const char* kWords[] = {
    " alpha", " beta", " gamma", " delta",  " epsilon", " zeta",       " eta",
    " theta", " iota", " kappa", " lambda", " mu",      " nu",         " xi",
    ".",      ",",     "\n",     " return", " if",      " caf\xc3\xa9"};
constexpr int32_t kFirstWord = 256;
constexpr int32_t kVocabulary = kFirstWord + 20;

std::string TokenBytes(int32_t id) {
  if (id < kFirstWord) return std::string(1, static_cast<char>(id));
  return kWords[(id - kFirstWord) % 20];
}

std::string PromptText(const v1::GenerateRequest& request) {
  if (request.has_text()) return request.text();
  std::string text;
  if (request.has_tokens()) {
    for (int32_t id : request.tokens().ids()) text += TokenBytes(id);
  }
  for (const auto& message : request.chat().messages()) {
    text += "<" + message.role() + ">" + message.content();
  }
  return text;
}

std::vector<int32_t> PromptTokens(const v1::GenerateRequest& request) {
  if (request.has_tokens()) {
    return {request.tokens().ids().begin(), request.tokens().ids().end()};
  }
  std::vector<int32_t> ids;
  for (char c : PromptText(request)) ids.push_back(static_cast<uint8_t>(c));
  return ids;
}

// A made-up distribution after `seed`: the chosen token is its best.
void FillLogprob(uint64_t seed, int32_t token, int top_n,
                 v1::TokenLogprob& out) {
  std::mt19937_64 random(seed);
  float logprob = -static_cast<float>(random() % 1000) / 500.0f;
  out.set_token(token);
  out.set_text(TokenBytes(token));
  out.set_logprob(logprob);
  std::set<int32_t> used;
  for (int i = 0; i < top_n; ++i) {
    int32_t id = i == 0 ? token : static_cast<int32_t>(random() % kVocabulary);
    while (!used.insert(id).second) id = (id + 1) % kVocabulary;
    v1::TokenLogprob& top = *out.add_top();
    top.set_token(id);
    top.set_text(TokenBytes(id));
    top.set_logprob(logprob);
    logprob -= 0.125f;
  }
}

struct Piece {
  int32_t token;
  std::string text;
};

struct Answer {
  std::vector<Piece> pieces;
  std::string reason = "stop";
};

// Everything the answer will be, before any of it is sent.
Answer Invent(const v1::GenerateRequest& request, uint64_t seed,
              int64_t max_tokens) {
  const v1::SamplingParams& sampling = request.sampling();
  std::mt19937_64 random(seed);
  Answer answer;
  std::string text;
  if (max_tokens == 0) answer.reason = "length";
  for (int64_t i = 0; i < max_tokens; ++i) {
    const int32_t token = kFirstWord + static_cast<int32_t>(random() % 20);
    if (!sampling.ignore_eos() && i > 3 && random() % 32 == 0) return answer;
    std::string piece = TokenBytes(token);
    text += piece;
    for (const std::string& stop : sampling.stop()) {
      const size_t at = text.find(stop);
      if (at == std::string::npos) continue;
      // Cut what was already queued back to where the stop string begins.
      while (text.size() - piece.size() > at) {
        text.resize(text.size() - piece.size());
        piece = answer.pieces.back().text;
        answer.pieces.pop_back();
      }
      piece.resize(at - (text.size() - piece.size()));
      if (!piece.empty()) answer.pieces.push_back({token, piece});
      return answer;
    }
    answer.pieces.push_back({token, std::move(piece)});
    if (i + 1 == max_tokens) answer.reason = "length";
  }
  return answer;
}

}  // namespace

// A thread for each stream: simple, and enough for tests.
class FakeRouterClient::Call final : public StreamCall {
 public:
  Call(const FakeRouterOptions& options, std::shared_ptr<State> state,
       v1::GenerateRequest request, absl::StatusOr<v1::Decision> decision,
       StreamCallbacks callbacks)
      : options_(options),
        state_(std::move(state)),
        request_(std::move(request)),
        decision_(std::move(decision)),
        callbacks_(std::move(callbacks)) {
    ++state_->running;
    thread_ = std::thread([this] { Run(); });
  }
  ~Call() override {
    Cancel();
    thread_.join();
  }
  void Cancel() override { Set(cancel_, true); }
  void Pause() override { Set(paused_, true); }
  void Resume() override { Set(paused_, false); }

 private:
  void Set(bool& flag, bool value) {
    {
      std::lock_guard lock(mutex_);
      flag = value;
    }
    wake_.notify_all();
  }

  void Run() {
    const absl::Status status = Stream();
    if (status.code() == absl::StatusCode::kCancelled) ++state_->cancelled;
    --state_->running;
    callbacks_.on_done(status);
  }

  // False when cancelled.
  bool Wait(absl::Duration time) {
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, absl::ToChronoNanoseconds(time),
                   [this] { return cancel_; });
    wake_.wait(lock, [this] { return cancel_ || !paused_; });
    return !cancel_;
  }

  absl::Status Stream() {
    RETURN_IF_ERROR(decision_.status());
    const std::string& model = request_.model();
    if (model == "busy") {
      return ResourceExhausted("the queue is full: 16 of 16 requests wait");
    }
    if (model == "down") {
      return Unavailable(
          "failed to connect to all addresses; last error: UNKNOWN: "
          "ipv4:10.0.0.7:4242: Failed to connect to remote host");
    }
    if (model == "leaky") return Internal("open /var/lib/secret/db: EIO");
    const v1::SamplingParams& sampling = request_.sampling();
    const std::vector<int32_t> prompt = PromptTokens(request_);
    const auto prompt_size = static_cast<int64_t>(prompt.size());
    if (prompt_size > options_.context) {
      return InvalidArgument(
          "context_length_exceeded: the prompt is {} tokens, the context {}",
          prompt.size(), options_.context);
    }
    const int64_t room = options_.context - prompt_size;
    const int64_t max_tokens = sampling.has_max_tokens()
                                   ? std::min(room, sampling.max_tokens())
                                   : room;
    SendStarted(prompt);
    v1::GenerateEvent last;
    last.mutable_usage()->set_prompt_tokens(prompt_size);
    int64_t completion = 0;
    for (int index = 0; index < std::max(1, sampling.n()); ++index) {
      const uint64_t seed =
          Xxh3_64(PromptText(request_), static_cast<uint64_t>(index)) ^
          (sampling.has_temperature() && sampling.temperature() == 0 ? 0
           : sampling.has_seed() ? sampling.seed() * 31
                                 : Xxh3_64(request_.request_id()));
      const Answer answer = Invent(request_, seed, max_tokens);
      RETURN_IF_ERROR(SendAnswer(answer, index, seed, completion));
    }
    last.mutable_usage()->set_completion_tokens(completion);
    callbacks_.on_event(last);
    return absl::OkStatus();
  }

  void SendStarted(const std::vector<int32_t>& prompt) {
    const v1::SamplingParams& sampling = request_.sampling();
    v1::GenerateEvent event;
    auto& started = *event.mutable_started();
    started.set_request_id(request_.request_id());
    started.set_expert(decision_->expert());
    started.set_model("3f2a9c0d1e4b5a69788796a5b4c3d2e1");
    started.set_prompt_tokens(static_cast<int64_t>(prompt.size()));
    *started.mutable_decision() = *decision_;
    if (sampling.echo()) {
      started.set_prompt_text(PromptText(request_));
      for (size_t i = 0; sampling.has_logprobs() && i < prompt.size(); ++i) {
        FillLogprob(i, prompt[i], sampling.logprobs(),
                    *started.add_prompt_logprobs());
      }
    }
    callbacks_.on_event(event);
  }

  absl::Status SendAnswer(const Answer& answer, int index, uint64_t seed,
                          int64_t& completion) {
    const v1::SamplingParams& sampling = request_.sampling();
    const absl::Duration delay =
        options_.token_delay * (request_.model() == "slow" ? 100 : 1);
    int sent = 0;
    for (const Piece& piece : answer.pieces) {
      if (!Wait(delay)) return Cancelled("cancelled");
      if (request_.model() == "broken" && sent == 3) {
        return DataLoss("layer 7 of the model is damaged");
      }
      v1::GenerateEvent event;
      auto& delta = *event.mutable_delta();
      delta.set_index(index);
      delta.set_text(piece.text + std::string(options_.pad_bytes, ' '));
      delta.add_tokens(piece.token);
      if (sampling.has_logprobs()) {
        FillLogprob(seed + static_cast<uint64_t>(sent), piece.token,
                    sampling.logprobs(), *delta.add_logprobs());
      }
      ++sent;
      ++completion;
      state_->sent_bytes += static_cast<int64_t>(delta.text().size());
      callbacks_.on_event(event);
    }
    v1::GenerateEvent event;
    event.mutable_finished()->set_index(index);
    event.mutable_finished()->set_reason(answer.reason);
    callbacks_.on_event(event);
    return absl::OkStatus();
  }

  const FakeRouterOptions options_;
  const std::shared_ptr<State> state_;
  const v1::GenerateRequest request_;
  const absl::StatusOr<v1::Decision> decision_;
  const StreamCallbacks callbacks_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool cancel_ = false;
  bool paused_ = false;
  std::thread thread_;
};

FakeRouterClient::FakeRouterClient(FakeRouterOptions options)
    : options_(options) {}

absl::StatusOr<v1::Decision> FakeRouterClient::Decide(
    const std::string& request_id, const std::string& model,
    const std::string& text) const {
  v1::Decision decision;
  decision.set_request_id(request_id);
  const bool code = text.find("code") != std::string::npos;
  decision.set_category(code ? "code" : "general");
  const std::set<std::string> known = {"chat", "coder",  "busy", "down",
                                       "slow", "broken", "leaky"};
  if (model.empty() || model == "auto") {
    decision.set_expert(code ? "coder" : "chat");
    decision.set_tier("ngram");
    decision.set_why(code ? "it speaks of code" : "nothing special in it");
  } else if (known.count(model) > 0) {
    decision.set_expert(model);
    decision.set_tier("bypass");
    decision.set_why("asked for by name");
  } else {
    return NotFound("no expert or model is named \"{}\"", model);
  }
  decision.set_confidence(0.875);
  decision.set_novelty(0.125);
  (*decision.mutable_posterior())["code"] = code ? 0.875 : 0.125;
  (*decision.mutable_posterior())["general"] = code ? 0.125 : 0.875;
  auto& candidate = *decision.add_candidates();
  candidate.set_expert(decision.expert());
  candidate.set_quality(0.75);
  candidate.set_cost(0.25);
  candidate.set_score(0.5);
  candidate.set_propensity(1);
  candidate.set_why("the only one");
  decision.set_router_us(42);
  (*decision.mutable_versions())["registry"] = "1";
  return decision;
}

std::unique_ptr<StreamCall> FakeRouterClient::Generate(
    const v1::GenerateRequest& request, absl::Time, StreamCallbacks callbacks) {
  auto decision =
      Decide(request.request_id(), request.model(), PromptText(request));
  {
    std::lock_guard lock(state_->mutex);
    state_->last_request = request;
    if (decision.ok()) {
      v1::ExplainResponse& record = state_->decisions[request.request_id()];
      *record.mutable_decision() = *decision;
      record.mutable_outcome()->set_expert(decision->expert());
      record.mutable_outcome()->set_status("OK");
    }
  }
  return std::make_unique<Call>(options_, state_, request, std::move(decision),
                                std::move(callbacks));
}

absl::StatusOr<v1::Decision> FakeRouterClient::Route(
    const v1::RouteRequest& request, absl::Time) {
  std::string text = request.text();
  for (const auto& message : request.chat().messages()) {
    text += message.content();
  }
  ASSIGN_OR_RETURN(v1::Decision decision,
                   Decide(request.request_id(), request.model(), text));
  std::lock_guard lock(state_->mutex);
  *state_->decisions[request.request_id()].mutable_decision() = decision;
  return decision;
}

absl::StatusOr<v1::EmbedResponse> FakeRouterClient::Embed(
    const v1::EmbedRequest& request, absl::Time) {
  if (request.model() == "chat") {
    return InvalidArgument("\"chat\" is not an encoder");
  }
  if (request.model() != "auto" && request.model() != "encoder") {
    return NotFound("no model is named \"{}\"", request.model());
  }
  v1::EmbedResponse response;
  response.set_model("encoder");
  for (const std::string& input : request.inputs()) {
    std::mt19937_64 random(Xxh3_64(input));
    auto& values = *response.add_embeddings()->mutable_values();
    double norm = 0;
    for (int i = 0; i < 8; ++i) {
      values.Add(static_cast<float>(random() % 2001) / 1000.0f - 1.0f);
      norm += values[i] * values[i];
    }
    for (float& value : values) {
      value = static_cast<float>(value / std::sqrt(norm));
    }
    response.set_prompt_tokens(response.prompt_tokens() +
                               static_cast<int64_t>(input.size()));
  }
  return response;
}

absl::StatusOr<v1::ExplainResponse> FakeRouterClient::Explain(
    const v1::ExplainRequest& request, absl::Time) {
  std::lock_guard lock(state_->mutex);
  const auto it = state_->decisions.find(request.request_id());
  if (it == state_->decisions.end()) {
    return NotFound("no decision with id \"{}\" is known",
                    request.request_id());
  }
  return it->second;
}

absl::StatusOr<v1::FeedbackResponse> FakeRouterClient::Feedback(
    const v1::FeedbackRequest& request, absl::Time) {
  std::lock_guard lock(state_->mutex);
  const auto it = state_->decisions.find(request.request_id());
  if (it == state_->decisions.end()) {
    return NotFound("no decision with id \"{}\" is known",
                    request.request_id());
  }
  v1::FeedbackRecord& record = *it->second.add_feedback();
  record.set_score(request.score());
  record.set_comment(request.comment());
  record.set_unix_ms(absl::ToUnixMillis(absl::Now()));
  return v1::FeedbackResponse();
}

v1::GenerateRequest FakeRouterClient::last_request() const {
  std::lock_guard lock(state_->mutex);
  return state_->last_request;
}

}  // namespace conclave::router
