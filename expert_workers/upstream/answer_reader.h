// Turns a server's chunks into the events of common.proto, and notices when
// they make no sense.
#ifndef CONCLAVE_EXPERT_WORKERS_UPSTREAM_ANSWER_READER_H_
#define CONCLAVE_EXPERT_WORKERS_UPSTREAM_ANSWER_READER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "conclave/v1/worker.pb.h"

namespace conclave::upstream {

class AnswerReader {
 public:
  using Sink = std::function<void(const v1::GenerateEvent& event)>;

  // `request` says how many answers are expected, and what to echo. Token ids
  // are not part of the protocol: logprobs carry -1 and the token's text.
  AnswerReader(const v1::WorkerGenerateRequest& request, Sink sink);

  // The data of one event. Nothing may follow "[DONE]".
  //   UNAVAILABLE  not JSON, the wrong shape, an error object of a server's
  //   INVALID_ARGUMENT, RESOURCE_EXHAUSTED  an error object that says so
  absl::Status Take(std::string_view data);

  // The stream has ended properly; sends what is owed: a missing finish after
  // [DONE] is "stop", a missing usage is zeros (unknown).
  //   UNAVAILABLE  neither [DONE] nor a finish_reason for every answer
  absl::Status Finish();

  bool done() const { return done_; }

 private:
  absl::Status TakeChoices(const void* choices);
  void SendStarted(std::string model);

  const Sink sink_;
  const bool is_chat_;
  std::string echo_text_;
  bool started_ = false;
  bool done_ = false;
  std::vector<bool> finished_;
  v1::GenerateEvent usage_;
};

// An embeddings response: one vector of one length for each input.
absl::StatusOr<v1::EmbedResponse> ReadEmbeddings(std::string_view body,
                                                 int num_inputs);

// What an answer other than 200 means; `body` may hold OpenAI's error shape.
absl::Status ErrorFromHttp(int http_status, std::string_view body);

}  // namespace conclave::upstream

#endif  // CONCLAVE_EXPERT_WORKERS_UPSTREAM_ANSWER_READER_H_
