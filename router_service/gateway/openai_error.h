// Errors as OpenAI's clients expect them:
//   {"error": {"message", "type", "param", "code"}}
// Inside the gateway they are absl::Status; the field at fault and a stable
// code travel as payloads. Nothing internal leaves: paths, addresses and
// control characters are scrubbed, INTERNAL says only "internal error".
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_OPENAI_ERROR_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_OPENAI_ERROR_H_

#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace conclave::gateway {

// The status with a field's name (`param`) or a stable code.
absl::Status WithParam(absl::Status status, std::string_view param);
absl::Status WithCode(absl::Status status, std::string_view code);

// INVALID_ARGUMENT about one field. `code`: "invalid_type", "invalid_value",
// "missing_field", "unknown_field", "unsupported_value".
template <typename... Args>
absl::Status FieldError(std::string_view param, std::string_view code,
                        fmt::format_string<Args...> format, Args&&... args) {
  return WithParam(
      WithCode(InvalidArgument(format, std::forward<Args>(args)...), code),
      param);
}

struct ApiError {
  int http_status = 500;
  std::string type;
  std::string code;
  std::string message;
  std::string param;      // empty: null
  int retry_after_s = 0;  // 0: no Retry-After header
};

// `not_found` is the code that NOT_FOUND gets where no payload names one.
ApiError ToApiError(const absl::Status& status,
                    std::string_view not_found = "model_not_found");

// An error of the HTTP layer itself: 404, 405, 413...
ApiError HttpError(int http_status, std::string_view code,
                   std::string_view message);

// The body, one line.
std::string ErrorBody(const ApiError& error);

// `message` without paths, socket addresses and control characters, at most
// 1 KiB. Public for its test.
std::string Scrub(std::string_view message);

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_OPENAI_ERROR_H_
