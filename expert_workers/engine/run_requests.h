// Test help: submits requests, waits for the ends, keeps everything that was
// said.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_RUN_REQUESTS_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_RUN_REQUESTS_H_

#include <bit>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "expert_workers/engine/engine.h"

namespace conclave::engine {

// One answer, whole.
struct Outcome {
  std::string text;
  std::vector<TokenEvent> tokens;
  std::vector<TokenEvent> prompt_tokens;
  FinishReason finish = FinishReason::kNone;
  absl::Status status;
  int64_t prompt_token_count = 0;
  int64_t cached_token_count = 0;
  int64_t output_token_count = 0;
  int num_events = 0;
};

// Collects the events of one request's answers.
class Collector {
 public:
  explicit Collector(int32_t n) : outcomes_(static_cast<size_t>(n)) {}

  // The collector outlives the request.
  EventSink Sink() {
    return [this](const EngineEvent& event) { Take(event); };
  }

  // Blocks until every answer has ended.
  const std::vector<Outcome>& Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_ == outcomes_.size(); });
    return outcomes_;
  }
  // Blocks until some answer has `count` tokens or all ended.
  void WaitForTokens(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] {
      for (const Outcome& o : outcomes_) {
        if (o.tokens.size() >= count) return true;
      }
      return ended_ == outcomes_.size();
    });
  }
  bool ended() {
    std::lock_guard lock(mutex_);
    return ended_ == outcomes_.size();
  }
  bool broken() {
    std::lock_guard lock(mutex_);
    return broken_;
  }

 private:
  void Take(const EngineEvent& event) {
    std::lock_guard lock(mutex_);
    Outcome& o = outcomes_.at(static_cast<size_t>(event.index));
    // An answer speaks no more once it has ended.
    if (o.finish != FinishReason::kNone) broken_ = true;
    if (o.num_events++ == 0) o.prompt_tokens = event.prompt_tokens;
    o.text += event.text;
    o.tokens.insert(o.tokens.end(), event.tokens.begin(), event.tokens.end());
    o.prompt_token_count = event.prompt_token_count;
    o.cached_token_count = event.cached_token_count;
    o.output_token_count = event.output_token_count;
    if (event.finish != FinishReason::kNone) {
      o.finish = event.finish;
      o.status = event.status;
      ++ended_;
    }
    // Under the lock: a waiter may destroy this as soon as it can.
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Outcome> outcomes_;
  size_t ended_ = 0;
  bool broken_ = false;
};

// Everything said but how much was cached, with floats as their bits: equal
// strings, equal bits.
inline std::string Transcript(const std::vector<Outcome>& outcomes) {
  std::string out;
  const auto put_token = [&](const TokenEvent& t) {
    out += " " + std::to_string(t.token) + ":" +
           std::to_string(std::bit_cast<uint32_t>(t.logprob));
    for (const TokenLogprob& top : t.top) {
      out += "," + std::to_string(top.token) + "/" +
             std::to_string(std::bit_cast<uint32_t>(top.logprob));
    }
  };
  for (const Outcome& o : outcomes) {
    out += "[" + o.text + "] finish " +
           std::to_string(static_cast<int>(o.finish)) + " counts " +
           std::to_string(o.prompt_token_count) + " " +
           std::to_string(o.output_token_count) + " prompt";
    for (const TokenEvent& t : o.prompt_tokens) put_token(t);
    out += " output";
    for (const TokenEvent& t : o.tokens) put_token(t);
    out += "\n";
  }
  return out;
}

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_RUN_REQUESTS_H_
