#include "router_service/gateway/openai_error.h"

#include <absl/strings/cord.h>

#include <nlohmann/json.hpp>
#include <optional>

namespace conclave::gateway {
namespace {

constexpr char kParam[] = "conclave.v1/param";
constexpr char kCode[] = "conclave.v1/code";

absl::Status WithPayload(absl::Status status, const char* url,
                         std::string_view value) {
  status.SetPayload(url, absl::Cord(std::string(value)));
  return status;
}

std::string Payload(const absl::Status& status, const char* url) {
  const auto payload = status.GetPayload(url);
  return payload.has_value() ? std::string(*payload) : std::string();
}

struct Mapping {
  absl::StatusCode status;
  int http;
  const char* type;
  const char* code;
  int retry_after_s;
};

// Retry-After: a slot frees within about a second on a busy machine; a
// missing worker takes a few heartbeats to be replaced.
constexpr Mapping kMappings[] = {
    {absl::StatusCode::kInvalidArgument, 400, "invalid_request_error",
     "invalid_request", 0},
    {absl::StatusCode::kOutOfRange, 400, "invalid_request_error",
     "invalid_request", 0},
    {absl::StatusCode::kUnauthenticated, 401, "authentication_error",
     "invalid_api_key", 0},
    {absl::StatusCode::kPermissionDenied, 403, "permission_error",
     "permission_denied", 0},
    {absl::StatusCode::kNotFound, 404, "invalid_request_error", nullptr, 0},
    {absl::StatusCode::kAlreadyExists, 409, "invalid_request_error",
     "already_exists", 0},
    {absl::StatusCode::kAborted, 409, "server_error", "aborted", 0},
    {absl::StatusCode::kResourceExhausted, 429, "rate_limit_error",
     "rate_limit_exceeded", 1},
    {absl::StatusCode::kCancelled, 499, "server_error", "cancelled", 0},
    {absl::StatusCode::kUnimplemented, 501, "server_error", "unimplemented", 0},
    {absl::StatusCode::kUnavailable, 503, "server_error", "unavailable", 2},
    {absl::StatusCode::kFailedPrecondition, 503, "server_error",
     "failed_precondition", 2},
    {absl::StatusCode::kDeadlineExceeded, 504, "server_error",
     "deadline_exceeded", 0},
    {absl::StatusCode::kDataLoss, 500, "server_error", "data_loss", 0},
};

bool IsPathCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c >= '0' && c <= '9') || c == '/' || c == '.' || c == '_' ||
         c == '-' || c == '~' || c == '+' || c == '@' || c == '%';
}

// Does an address as gRPC prints them start here?
bool StartsAddress(std::string_view text) {
  for (std::string_view scheme : {"ipv4:", "ipv6:", "unix:", "dns:///"}) {
    if (text.starts_with(scheme)) return true;
  }
  return false;
}

// "endpoint HOST[:PORT]: ...", as the upstream client begins its messages: the
// length of all before the host, else 0.
size_t EndpointLength(std::string_view text) {
  constexpr std::string_view kEndpoint = "endpoint ";
  if (!text.starts_with(kEndpoint)) return 0;
  const std::string_view host = text.substr(
      kEndpoint.size(), text.find(' ', kEndpoint.size()) - kEndpoint.size());
  return host.ends_with(':') ? kEndpoint.size() : 0;
}

// A path: "/" then path characters with another "/" in them. Our own routes
// (/v1/...) are no secret.
size_t PathLength(std::string_view text) {
  if (text[0] != '/' || text.starts_with("/v1/")) return 0;
  size_t length = 1;
  size_t slashes = 0;
  while (length < text.size() && IsPathCharacter(text[length])) {
    slashes += text[length] == '/';
    ++length;
  }
  return slashes > 0 && length > 3 ? length : 0;
}

}  // namespace

absl::Status WithParam(absl::Status status, std::string_view param) {
  return WithPayload(std::move(status), kParam, param);
}

absl::Status WithCode(absl::Status status, std::string_view code) {
  return WithPayload(std::move(status), kCode, code);
}

std::string Scrub(std::string_view message) {
  constexpr size_t kMaxBytes = 1024;
  std::string clean;
  bool word_start = true;
  for (size_t i = 0; i < message.size() && clean.size() < kMaxBytes;) {
    const std::string_view rest = message.substr(i);
    if (word_start) {
      const size_t path = PathLength(rest);
      if (path > 0) {
        clean += "<path>";
        i += path;
        word_start = false;
        continue;
      }
      const size_t endpoint = EndpointLength(rest);
      if (endpoint > 0 || StartsAddress(rest)) {
        clean += rest.substr(0, endpoint);
        clean += "<address>";
        i += endpoint;
        while (i < message.size() && message[i] != ' ' && message[i] != ',' &&
               message[i] != ';') {
          ++i;
        }
        word_start = false;
        continue;
      }
    }
    const char c = message[i++];
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                      (c >= '0' && c <= '9') || c == '.' || c == '/' ||
                      c == '_' || c == '-';
    word_start = !word;
    const auto byte = static_cast<unsigned char>(c);
    clean += byte < 0x20 || byte == 0x7f ? ' ' : c;
  }
  return clean;
}

ApiError ToApiError(const absl::Status& status, std::string_view not_found) {
  ApiError error;
  error.type = "server_error";
  error.code = "internal_error";
  error.message = "internal error";
  for (const Mapping& mapping : kMappings) {
    if (mapping.status != status.code()) continue;
    error.http_status = mapping.http;
    error.type = mapping.type;
    error.code = mapping.code == nullptr ? std::string(not_found)
                                         : std::string(mapping.code);
    error.message = Scrub(Message(status));
    error.retry_after_s = mapping.retry_after_s;
  }
  // The engine says so in words, since codes do not cross gRPC.
  constexpr std::string_view kTooLong = "context_length_exceeded";
  if (Message(status).find(kTooLong) != std::string_view::npos &&
      status.code() == absl::StatusCode::kInvalidArgument) {
    error.code = kTooLong;
  }
  // No later try would fit: not a matter of load.
  constexpr std::string_view kTooLarge = "kv_budget_exceeded";
  if (Message(status).find(kTooLarge) != std::string_view::npos &&
      status.code() == absl::StatusCode::kResourceExhausted) {
    error.http_status = 400;
    error.type = "invalid_request_error";
    error.code = kTooLarge;
    error.retry_after_s = 0;
  }
  if (std::string code = Payload(status, kCode); !code.empty()) {
    error.code = std::move(code);
  }
  error.param = Payload(status, kParam);
  return error;
}

ApiError HttpError(int http_status, std::string_view code,
                   std::string_view message) {
  ApiError error;
  error.http_status = http_status;
  error.type = http_status >= 500 ? "server_error" : "invalid_request_error";
  error.code = code;
  error.message = message;
  return error;
}

std::string ErrorBody(const ApiError& error) {
  nlohmann::ordered_json body;
  auto& inner = body["error"];
  inner["message"] = error.message;
  inner["type"] = error.type;
  inner["param"] = error.param.empty() ? nlohmann::ordered_json(nullptr)
                                       : nlohmann::ordered_json(error.param);
  inner["code"] = error.code;
  return body.dump(-1, ' ', false,
                   nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace conclave::gateway
