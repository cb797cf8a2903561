#include "base/rpc/status.h"

#include <gtest/gtest.h>

namespace conclave::rpc {
namespace {

TEST(RpcStatusTest, EveryCodeSurvivesTheRoundTrip) {
  for (int code = 0; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "why");
    const absl::Status back = FromGrpc(ToGrpc(status));
    EXPECT_EQ(back, status) << code;
  }
}

}  // namespace
}  // namespace conclave::rpc
