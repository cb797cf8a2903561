// The router's event stream -> OpenAI's response bodies.
//
// AnswerStream writes server-sent events as they come; AnswerBody collects
// one body. Both are fed every event of a stream, in order.
// Threads: none of these may be used from two threads at once.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_OPENAI_RESPONSE_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_OPENAI_RESPONSE_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "router_service/gateway/logprobs_json.h"
#include "router_service/gateway/openai_request.h"

namespace conclave::gateway {

// What the body needs to know about the request.
struct AnswerFormat {
  bool chat = true;
  bool include_usage = false;
  bool echo = false;
  int n = 1;
  std::optional<int> logprobs;  // alternatives for each token
  int64_t created_unix_s = 0;
  std::string request_id;
};
AnswerFormat FormatFor(const GenerationRequest& request,
                       int64_t created_unix_s);

// id, object, created, model, system_fingerprint.
nlohmann::ordered_json AnswerEnvelope(const AnswerFormat& format, bool chunk,
                                      const v1::GenerateEvent::Started& who);

class AnswerStream {
 public:
  explicit AnswerStream(AnswerFormat format);
  // The events to send for `event`; may be empty. The first chunk of a chat
  // answer carries the role, the first of an echo the prompt.
  std::string OnEvent(const v1::GenerateEvent& event);
  // After the stream ended well: usage if asked for, then [DONE]. INTERNAL
  // when the stream was incomplete.
  absl::StatusOr<std::string> End();
  // After it broke: an error event, and no [DONE].
  static std::string Error(const absl::Status& status);

 private:
  std::string First(const v1::GenerateEvent::Started& started);
  std::string Next(const v1::GenerateEvent::Delta& delta);
  std::string Last(const v1::GenerateEvent::Finished& finished);
  nlohmann::ordered_json Chunk() const;
  std::string Send(nlohmann::ordered_json choice) const;

  const AnswerFormat format_;
  v1::GenerateEvent::Started started_;
  std::vector<CompletionLogprobs> logprobs_;  // one for each answer
  std::vector<bool> finished_;
  std::optional<v1::GenerateEvent::Usage> usage_;
};

class AnswerBody {
 public:
  explicit AnswerBody(AnswerFormat format);
  void OnEvent(const v1::GenerateEvent& event);
  // INTERNAL when an answer is unfinished or usage is missing.
  absl::StatusOr<std::string> End();

 private:
  struct Answer {
    std::string text;
    std::string reason;
    nlohmann::ordered_json chat_logprobs = nlohmann::ordered_json::array();
    CompletionLogprobs completion_logprobs;
    nlohmann::ordered_json tool_calls = nlohmann::ordered_json::array();
  };
  nlohmann::ordered_json Choice(Answer& answer, int index) const;

  const AnswerFormat format_;
  v1::GenerateEvent::Started started_;
  std::vector<Answer> answers_;
  std::optional<v1::GenerateEvent::Usage> usage_;
};

// The whole body of POST /v1/embeddings.
std::string EmbeddingsBody(const v1::EmbedResponse& response, bool base64);

// Merges OpenAI tool-call deltas (an array as JSON text, entries told apart
// by `index`) into `calls`; what is not such an array is left out.
void MergeToolCalls(std::string_view delta_json, nlohmann::ordered_json& calls);

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_OPENAI_RESPONSE_H_
