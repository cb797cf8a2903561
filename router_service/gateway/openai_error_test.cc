#include "router_service/gateway/openai_error.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace conclave::gateway {
namespace {

TEST(OpenAiErrorTest, StatusMapping) {
  struct Case {
    absl::Status status;
    int http;
    const char* code;
  };
  const Case cases[] = {
      {InvalidArgument("x"), 400, "invalid_request"},
      {InvalidArgument("context_length_exceeded: 9 > 8"), 400,
       "context_length_exceeded"},
      {Unauthenticated("x"), 401, "invalid_api_key"},
      {PermissionDenied("x"), 403, "permission_denied"},
      {NotFound("x"), 404, "model_not_found"},
      {ResourceExhausted("x"), 429, "rate_limit_exceeded"},
      {ResourceExhausted("expert chat: kv_budget_exceeded: 9 pages, 8 are"),
       400, "kv_budget_exceeded"},
      {Unavailable("x"), 503, "unavailable"},
      {FailedPrecondition("x"), 503, "failed_precondition"},
      {DeadlineExceeded("x"), 504, "deadline_exceeded"},
      {DataLoss("x"), 500, "data_loss"},
      {Internal("x"), 500, "internal_error"},
      {absl::UnknownError("x"), 500, "internal_error"},
  };
  for (const Case& c : cases) {
    const ApiError error = ToApiError(c.status);
    EXPECT_EQ(error.http_status, c.http) << c.status;
    EXPECT_EQ(error.code, c.code) << c.status;
  }
  EXPECT_GT(ToApiError(ResourceExhausted("x")).retry_after_s, 0);
  EXPECT_EQ(
      ToApiError(ResourceExhausted("kv_budget_exceeded: x")).retry_after_s, 0);
  EXPECT_EQ(ToApiError(Internal("secret")).message, "internal error");
  EXPECT_EQ(ToApiError(NotFound("x"), "decision_not_found").code,
            "decision_not_found");
}

TEST(OpenAiErrorTest, BodyHasTheFourKeys) {
  const auto body = nlohmann::json::parse(
      ErrorBody(ToApiError(FieldError("top_k", "invalid_type", "bad"))));
  EXPECT_EQ(body.dump(), R"({"error":{"code":"invalid_type","message":"bad",)"
                         R"("param":"top_k","type":"invalid_request_error"}})");
  const auto plain = nlohmann::json::parse(ErrorBody(ToApiError(
      InvalidArgument("{}", std::string("\xff\xfe broken\nlines")))));
  EXPECT_TRUE(plain["error"]["param"].is_null());
}

TEST(OpenAiErrorTest, ScrubHidesPathsAndAddresses) {
  EXPECT_EQ(Scrub("cannot open /var/lib/conclave/db/LOCK: busy"),
            "cannot open <path>: busy");
  EXPECT_EQ(Scrub("ipv4:10.1.2.3:50051: refused"), "<address> refused");
  EXPECT_EQ(Scrub("at unix:/run/x.sock, later"), "at <address>, later");
  EXPECT_EQ(Scrub("expert law: endpoint gpu.intern:9000: cannot connect"),
            "expert law: endpoint <address> cannot connect");
  EXPECT_EQ(Scrub("endpoint [fd00::7]:80: it redirects"),
            "endpoint <address> it redirects");
  EXPECT_EQ(Scrub("the endpoint is named: x"), "the endpoint is named: x");
  EXPECT_EQ(Scrub("endpoint "), "endpoint ");
  EXPECT_EQ(Scrub("see '/home/me/model.gguf'"), "see '<path>'");
  EXPECT_EQ(Scrub("a\r\nb"), "a  b");
  EXPECT_EQ(Scrub("3/4 and or/and use /v1/models"),
            "3/4 and or/and use /v1/models");
  EXPECT_LE(Scrub(std::string(5000, 'x')).size(), 1024u);
}

}  // namespace
}  // namespace conclave::gateway
