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

TEST(RpcStatusTest, ALongMessageIsCutBetweenCharacters) {
  const std::string fits(kMaxErrorBytes, 'x');
  EXPECT_EQ(ToGrpc(NotFound("{}", fits)).error_message(), fits);
  for (const std::string character : {"x", "\u00e9", "\u20ac", "\U0001f600"}) {
    for (const std::string before : {"", "a", "ab", "abc"}) {
      std::string text = before;
      while (text.size() < 100'000) text += character;
      const grpc::Status cut = ToGrpc(NotFound("{}", text));
      EXPECT_EQ(cut.error_code(), grpc::StatusCode::NOT_FOUND);
      std::string kept = cut.error_message();
      EXPECT_LE(kept.size(), kMaxErrorBytes);
      EXPECT_GT(kept.size(), kMaxErrorBytes - 4);
      ASSERT_TRUE(kept.ends_with("\u2026"));
      kept.resize(kept.size() - std::string("\u2026").size());
      EXPECT_TRUE(text.starts_with(kept));
      EXPECT_EQ((kept.size() - before.size()) % character.size(), 0u);
    }
  }
  // Nothing but continuation bytes: no character to cut before.
  EXPECT_LE(
      ToGrpc(NotFound("{}", std::string(5000, '\x80'))).error_message().size(),
      kMaxErrorBytes);
}

}  // namespace
}  // namespace conclave::rpc
