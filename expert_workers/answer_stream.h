// Turns an engine's events for one request into the stream of GenerateEvent
// that worker.proto promises: started, deltas, finished for each answer,
// usage; then done, once.
//
// Threads: Take is called on the engine's thread; Fail from anywhere, but not
// together with Take.
#ifndef CONCLAVE_EXPERT_WORKERS_ANSWER_STREAM_H_
#define CONCLAVE_EXPERT_WORKERS_ANSWER_STREAM_H_

#include <memory>
#include <string>

#include "base/status.h"
#include "expert_workers/client.h"
#include "expert_workers/engine/engine.h"
#include "expert_workers/tokenizer/tokenizer.h"

namespace conclave::workers {

class AnswerStream {
 public:
  struct Start {
    std::string request_id;
    std::string version;
    int64_t prompt_tokens = 0;
    std::string prompt_text;  // with echo
    bool echo = false;
    bool logprobs = false;
    int32_t n = 1;
  };

  AnswerStream(Start start, std::shared_ptr<const engine::Tokenizer> tokenizer,
               StreamCallbacks callbacks);

  // True when this was the last event: done has been called. `cancelled` is
  // the stream's status if the engine gave it up.
  bool Take(const engine::EngineEvent& event, const absl::Status& cancelled);
  // Ends a stream that never reached an engine.
  void Fail(absl::Status status);

 private:
  void SendStarted(const engine::EngineEvent& first);
  void SendUsage();

  const Start start_;
  const std::shared_ptr<const engine::Tokenizer> tokenizer_;
  const StreamCallbacks callbacks_;
  bool started_ = false;
  int32_t finished_ = 0;
  int64_t output_tokens_ = 0;  // of finished answers
  int64_t cached_tokens_ = 0;
  bool cancelled_ = false;
  absl::Status status_;
};

}  // namespace conclave::workers

#endif  // CONCLAVE_EXPERT_WORKERS_ANSWER_STREAM_H_
