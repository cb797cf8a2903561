#include "base/rpc/server.h"

#include <absl/time/clock.h>
#include <gtest/gtest.h>

namespace conclave::rpc {
namespace {

TEST(RpcServerTest, AnswersOnItsPortAndRefusesATakenOne) {
  auto server = Server::Start("127.0.0.1:0", {});
  ASSERT_TRUE(server.ok()) << server.status();
  ASSERT_GT((*server)->port(), 0);
  const std::string address = fmt::format("127.0.0.1:{}", (*server)->port());
  auto channel = Connect(address);
  EXPECT_TRUE(WaitForConnected(*channel, absl::Now() + absl::Seconds(5)));

  auto second = Server::Start(address, {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(Message(second.status()).find(address), std::string_view::npos);
}

TEST(RpcServerTest, NobodyThereIsKnownAtOnce) {
  std::string address;
  {
    auto server = Server::Start("127.0.0.1:0", {});
    ASSERT_TRUE(server.ok());
    address = fmt::format("127.0.0.1:{}", (*server)->port());
  }
  auto channel = Connect(address);
  const absl::Time start = absl::Now();
  EXPECT_FALSE(WaitForConnected(*channel, start + absl::Seconds(20)));
  EXPECT_LT(absl::Now() - start, absl::Seconds(10));
}

TEST(RpcServerTest, InProcessOnlyHasNoPort) {
  auto server = Server::Start("", {});
  ASSERT_TRUE(server.ok());
  EXPECT_EQ((*server)->port(), 0);
  EXPECT_NE((*server)->InProcessChannel(), nullptr);
}

}  // namespace
}  // namespace conclave::rpc
