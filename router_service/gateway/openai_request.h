// OpenAI's request bodies -> the router's messages, checked field by field.
//
// Every error is INVALID_ARGUMENT with the field as `param` and a stable code
// (openai_error.h). What is not implemented is refused, never ignored: a
// caller who asked for a JSON schema must not get free text. Fields that
// change nothing about the answer (`user`, `metadata`, `store`, ...) are
// accepted; unknown ones are refused with the nearest known one. null means
// absent, as in OpenAI's API.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_OPENAI_REQUEST_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_OPENAI_REQUEST_H_

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "conclave/v1/router.pb.h"

namespace conclave::gateway {

struct GenerationRequest {
  v1::GenerateRequest message;  // request_id and tenant are left to the caller
  bool chat = true;             // /v1/chat/completions, else /v1/completions
  bool stream = false;
  bool include_usage = false;  // stream_options.include_usage
};

struct EmbeddingsRequest {
  v1::EmbedRequest message;
  bool base64 = false;
};

// At the request's first byte the body is at most HttpLimits::max_body.
absl::StatusOr<GenerationRequest> ParseChatCompletion(std::string_view body);
absl::StatusOr<GenerationRequest> ParseCompletion(std::string_view body);
absl::StatusOr<EmbeddingsRequest> ParseEmbeddings(std::string_view body);
// A chat-completions body; only model, messages and tools matter.
absl::StatusOr<v1::RouteRequest> ParseRoute(std::string_view body);
absl::StatusOr<v1::FeedbackRequest> ParseFeedback(std::string_view body);

// 1..128 of [A-Za-z0-9._:-].
bool IsRequestId(std::string_view id);

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_OPENAI_REQUEST_H_
