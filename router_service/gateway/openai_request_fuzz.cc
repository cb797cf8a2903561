// Any bytes as the body of any route: parsed or refused, never worse.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "router_service/gateway/openai_error.h"
#include "router_service/gateway/openai_request.h"

namespace {

template <typename T>
void Expect(const absl::StatusOr<T>& parsed) {
  if (parsed.ok()) return;
  const auto error = conclave::gateway::ToApiError(parsed.status());
  CHECK(error.http_status == 400, "{}", error.http_status);
  CHECK(!conclave::gateway::ErrorBody(error).empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace gateway = conclave::gateway;
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  Expect(gateway::ParseChatCompletion(body));
  Expect(gateway::ParseCompletion(body));
  Expect(gateway::ParseEmbeddings(body));
  Expect(gateway::ParseRoute(body));
  Expect(gateway::ParseFeedback(body));
  return 0;
}
