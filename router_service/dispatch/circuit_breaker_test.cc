#include "router_service/dispatch/circuit_breaker.h"

#include <gtest/gtest.h>

namespace conclave::router {
namespace {

using State = CircuitBreaker::State;

class CircuitBreakerTest : public ::testing::Test {
 protected:
  void Fail(int times) {
    for (int i = 0; i < times; ++i) {
      breaker_.Report("t", Verdict::kFailure);
    }
  }
  FakeClock clock_;
  CircuitBreaker breaker_{&clock_};
};

TEST_F(CircuitBreakerTest, OpensAfterFailuresInARow) {
  Fail(4);
  breaker_.Report("t", Verdict::kSuccess);
  Fail(4);
  EXPECT_TRUE(breaker_.Admit("t").ok());
  EXPECT_EQ(breaker_.state("t"), State::kClosed);
  Fail(1);
  EXPECT_EQ(breaker_.state("t"), State::kOpen);
  EXPECT_EQ(breaker_.Admit("t").code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(breaker_.Admit("other").ok());
}

TEST_F(CircuitBreakerTest, OneProbeDecides) {
  Fail(5);
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(breaker_.state("t"), State::kHalfOpen);
  EXPECT_TRUE(breaker_.Admit("t").ok());
  EXPECT_FALSE(breaker_.Admit("t").ok());  // one at a time
  breaker_.Report("t", Verdict::kSuccess);
  EXPECT_EQ(breaker_.state("t"), State::kClosed);
  Fail(4);
  EXPECT_TRUE(breaker_.Admit("t").ok());  // the count began anew
}

TEST_F(CircuitBreakerTest, AFailedProbeWaitsTwiceAsLongUpToALimit) {
  Fail(5);
  absl::Duration wait = absl::Seconds(1);
  for (int i = 0; i < 8; ++i) {
    clock_.Advance(wait - absl::Milliseconds(1));
    EXPECT_FALSE(breaker_.Admit("t").ok()) << i;
    clock_.Advance(absl::Milliseconds(1));
    EXPECT_TRUE(breaker_.Admit("t").ok()) << i;
    Fail(1);
    wait = std::min(wait * 2, absl::Seconds(30));
  }
}

TEST_F(CircuitBreakerTest, AProbeWithoutVerdictMakesRoomForTheNext) {
  Fail(5);
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(breaker_.Admit("t").ok());
  breaker_.Report("t", Verdict::kNone);
  EXPECT_TRUE(breaker_.Admit("t").ok());
}

TEST_F(CircuitBreakerTest, StragglersDoNotProlongIt) {
  Fail(5);
  clock_.Advance(absl::Milliseconds(900));
  Fail(3);
  clock_.Advance(absl::Milliseconds(100));
  EXPECT_TRUE(breaker_.Admit("t").ok());
}

TEST_F(CircuitBreakerTest, ForgetsWhatIsLongAgo) {
  Fail(4);
  clock_.Advance(absl::Minutes(11));
  EXPECT_TRUE(breaker_.Admit("other").ok());  // sweeps
  Fail(1);
  EXPECT_EQ(breaker_.state("t"), State::kClosed);
}

}  // namespace
}  // namespace conclave::router
