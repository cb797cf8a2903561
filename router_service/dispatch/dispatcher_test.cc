#include "router_service/dispatch/dispatcher.h"

#include <absl/time/clock.h>
#include <gmock/gmock.h>

#include "expert_workers/upstream/testing/test_event.h"
#include "router_service/dispatch/fake_target.h"

namespace conclave::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

struct Result {
  std::vector<v1::GenerateEvent> events;
  absl::Status status;
  v1::Outcome outcome;
  TestEvent first_event;
  TestEvent done;

  std::string text() const {
    std::string out;
    for (const auto& event : events) out += event.delta().text();
    return out;
  }
};

class DispatcherTest : public ::testing::Test {
 protected:
  std::unique_ptr<StreamCall> Start(
      std::vector<std::string> experts, Result& result,
      absl::Time deadline = absl::InfiniteFuture()) {
    return Start(dispatcher_, std::move(experts), result, deadline);
  }
  std::unique_ptr<StreamCall> Start(Dispatcher& dispatcher,
                                    std::vector<std::string> experts,
                                    Result& result, absl::Time deadline) {
    DispatchRequest request;
    request.request.set_request_id("r1");
    request.request.set_text("hello");
    request.experts = std::move(experts);
    request.snapshot = std::make_shared<const registry::Snapshot>();
    request.decision.set_category("code");
    request.deadline = deadline;
    request.ticket = in_flight_.Begin();
    DispatchCallbacks callbacks;
    callbacks.on_event = [&result](const v1::GenerateEvent& event) {
      result.events.push_back(event);
      if (result.events.size() == 1) result.first_event.Notify();
    };
    callbacks.on_done = [&result](absl::Status status, v1::Outcome outcome) {
      result.status = std::move(status);
      result.outcome = std::move(outcome);
      result.done.Notify();
    };
    return dispatcher.Generate(std::move(request), std::move(callbacks));
  }

  void Run(std::vector<std::string> experts, Result& result) {
    const auto call = Start(std::move(experts), result);
    ASSERT_TRUE(result.done.Wait());
  }

  FakeClock clock_;
  InFlight in_flight_;
  FakeResolver resolver_;
  Dispatcher dispatcher_{&resolver_, &clock_};
};

TEST_F(DispatcherTest, TheFirstCandidateAnswers) {
  resolver_.Add("a", {.words = {"x", "y"}});
  Result result;
  Run({"a", "b"}, result);
  EXPECT_TRUE(result.status.ok()) << result.status;
  ASSERT_THAT(result.events, SizeIs(5));
  const auto& started = result.events[0].started();
  EXPECT_EQ(started.expert(), "a");
  EXPECT_EQ(started.request_id(), "r1");
  EXPECT_EQ(started.model(), "fake");
  EXPECT_EQ(started.decision().category(), "code");
  EXPECT_EQ(result.text(), "xy");
  EXPECT_EQ(result.outcome.expert(), "a");
  EXPECT_EQ(result.outcome.status(), "OK");
  EXPECT_EQ(result.outcome.finish_reason(), "stop");
  EXPECT_EQ(result.outcome.completion_tokens(), 2);
  EXPECT_EQ(result.outcome.attempts_size(), 0);
  EXPECT_TRUE(in_flight_.IdleSince("a", 99));
}

TEST_F(DispatcherTest, TheNextCandidateStepsInBeforeTheFirstToken) {
  for (const bool at_once : {false, true}) {
    resolver_.Clear();
    resolver_.Add("down",
                  {.status = Unavailable("refused"), .at_once = at_once});
    resolver_.Add("down", {.status = DataLoss("unit 3"), .at_once = at_once});
    resolver_.Add("up", {.words = {"x"}, .at_once = at_once});
    Result result;
    Run({"missing", "down", "up"}, result);
    EXPECT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.events[0].started().expert(), "up");
    EXPECT_EQ(result.outcome.expert(), "up");
    EXPECT_THAT(
        result.outcome.attempts(),
        ElementsAre("missing: UNAVAILABLE no worker runs missing",
                    "down: UNAVAILABLE refused", "down: DATA_LOSS unit 3"));
  }
}

TEST_F(DispatcherTest, AfterTheFirstTokenAFailureEndsTheStream) {
  resolver_.Add("a", {.words = {"half"}, .status = Unavailable("died")});
  const auto other = resolver_.Add("b", {.words = {"x"}});
  Result result;
  Run({"a", "b"}, result);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Message(result.status), "expert a: died");
  EXPECT_EQ(result.text(), "half");
  EXPECT_EQ(result.outcome.expert(), "a");
  EXPECT_EQ(result.outcome.status(), "UNAVAILABLE");
  EXPECT_THAT(other->requests(), SizeIs(0));
}

TEST_F(DispatcherTest, TheCallersMistakeIsNotTriedElsewhere) {
  resolver_.Add("a", {.status = InvalidArgument("context_length_exceeded: x")});
  const auto other = resolver_.Add("b", {.words = {"x"}});
  Result result;
  Run({"a", "b"}, result);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(result.status), "context_length_exceeded: x");
  EXPECT_THAT(other->requests(), SizeIs(0));
  EXPECT_THAT(result.events, SizeIs(0));
}

TEST_F(DispatcherTest, WhenEverybodyFailsTheLastReasonIsTold) {
  resolver_.Add("a", {.status = Unavailable("one")});
  resolver_.Add("b", {.status = ResourceExhausted("two")});
  Result result;
  Run({"a", "b"}, result);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(Message(result.status)),
              HasSubstr("2 attempts failed; the last: expert b: two"));
  EXPECT_EQ(result.outcome.attempts_size(), 2);
  Result nobody;
  Run({}, nobody);
  EXPECT_EQ(nobody.status.code(), absl::StatusCode::kUnavailable);
}

TEST_F(DispatcherTest, AttemptsAreBounded) {
  std::vector<std::string> experts;
  std::vector<std::shared_ptr<FakeTarget>> targets;
  for (int i = 0; i < 20; ++i) {
    experts.push_back(std::to_string(i));
    targets.push_back(resolver_.Add(
        experts.back(), {.status = Unavailable("no"), .at_once = i % 2 == 0}));
  }
  Result result;
  Run(experts, result);
  size_t asked = 0;
  for (const auto& target : targets) asked += target->requests().size();
  EXPECT_EQ(asked, 5u);
}

TEST_F(DispatcherTest, ASilentEndIsAFailure) {
  resolver_.Add("a", {.started = false});
  resolver_.Add("b", {.words = {"x"}});
  Result result;
  Run({"a", "b"}, result);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.outcome.expert(), "b");
}

TEST_F(DispatcherTest, TheBreakerOpensAndCloses) {
  const auto sick = resolver_.Add("sick", {.status = Unavailable("down")});
  resolver_.Add("well", {.words = {"x"}});
  for (int i = 0; i < 8; ++i) {
    Result result;
    Run({"sick", "well"}, result);
    EXPECT_TRUE(result.status.ok());
    ASSERT_THAT(result.outcome.attempts(), SizeIs(1));
    if (i >= 5) {
      EXPECT_THAT(result.outcome.attempts(0), HasSubstr("5 times in a row"));
    }
  }
  EXPECT_THAT(sick->requests(), SizeIs(5));
  clock_.Advance(absl::Seconds(1));
  sick->SetScript({.words = {"back"}});
  Result result;
  Run({"sick", "well"}, result);
  EXPECT_EQ(result.outcome.expert(), "sick");
  EXPECT_EQ(dispatcher_.breaker().state("sick 0"),
            CircuitBreaker::State::kClosed);
}

TEST_F(DispatcherTest, AShortDeadlineDoesNotBlameTheTarget) {
  resolver_.Add("a", {.status = DeadlineExceeded("too slow")});
  const auto other = resolver_.Add("b", {.words = {"x"}});
  for (int i = 0; i < 10; ++i) {
    Result result;
    const auto call = Start({"a", "b"}, result, clock_.Now());
    ASSERT_TRUE(result.done.Wait());
    EXPECT_EQ(result.status.code(), absl::StatusCode::kDeadlineExceeded);
  }
  EXPECT_EQ(dispatcher_.breaker().state("a 0"), CircuitBreaker::State::kClosed);
  EXPECT_THAT(other->requests(), SizeIs(0));
}

TEST_F(DispatcherTest, CancelReachesTheTargetAndIsNotRetried) {
  for (const bool token_first : {false, true}) {
    resolver_.Clear();
    FakeTarget::Script script;
    script.hang = true;
    if (token_first) script.words = {"x"};
    resolver_.Add("a", script);
    const auto other = resolver_.Add("b", {.words = {"y"}});
    Result result;
    auto call = Start({"a", "b"}, result);
    if (token_first) {
      ASSERT_TRUE(result.first_event.Wait());
    }
    EXPECT_FALSE(in_flight_.IdleSince("a", 99));
    call->Cancel();
    ASSERT_TRUE(result.done.Wait());
    EXPECT_EQ(result.status.code(), absl::StatusCode::kCancelled);
    EXPECT_EQ(result.outcome.status(), "CANCELLED");
    EXPECT_EQ(result.outcome.finish_reason(), "cancelled");
    EXPECT_THAT(other->requests(), SizeIs(0));
    call.reset();
    EXPECT_TRUE(in_flight_.IdleSince("a", 99));
  }
}

TEST_F(DispatcherTest, DestroyingACallCancelsItAndWaits) {
  resolver_.Add("a", {.hang = true});
  Result result;
  Start({"a"}, result).reset();
  EXPECT_TRUE(result.done.HasHappened());
}

// Hung targets, on the real clock.
class HungTargetTest : public DispatcherTest {
 protected:
  static constexpr absl::Duration kPatience = absl::Milliseconds(80);
  static DispatchOptions Impatient() {
    DispatchOptions options;
    options.first_token_timeout = kPatience;
    options.token_timeout = kPatience;
    return options;
  }
  // A first token may take its time; a next one may not.
  static DispatchOptions ImpatientLater() {
    DispatchOptions options;
    options.token_timeout = kPatience;
    return options;
  }
  std::unique_ptr<StreamCall> Ask(Dispatcher& dispatcher,
                                  std::vector<std::string> experts,
                                  Result& result) {
    return Start(dispatcher, std::move(experts), result,
                 absl::InfiniteFuture());
  }
  Clock* const real_ = &Clock::Real();
};

TEST_F(HungTargetTest, BeforeTheFirstTokenTheNextCandidateStepsIn) {
  Dispatcher dispatcher(&resolver_, real_, Impatient());
  resolver_.Add("mute", {.hang = true, .started = false});
  resolver_.Add("stuck", {.hang = true});  // begins, and says nothing
  resolver_.Add("up", {.words = {"x"}});
  const absl::Time start = absl::Now();
  Result result;
  const auto call = Ask(dispatcher, {"mute", "stuck", "up"}, result);
  ASSERT_TRUE(result.done.Wait());
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.outcome.expert(), "up");
  EXPECT_EQ(result.text(), "x");
  EXPECT_GE(absl::Now() - start, 2 * kPatience);
  EXPECT_THAT(
      result.outcome.attempts(),
      ElementsAre("mute: DEADLINE_EXCEEDED no first token came within 0.08 s",
                  "stuck: DEADLINE_EXCEEDED no first token came within "
                  "0.08 s"));
}

TEST_F(HungTargetTest, WhenAllHangTheCallerHearsOfIt) {
  Dispatcher dispatcher(&resolver_, real_, Impatient());
  resolver_.Add("a", {.hang = true});
  for (int i = 0; i < 5; ++i) {
    Result result;
    const auto call = Ask(dispatcher, {"a"}, result);
    ASSERT_TRUE(result.done.Wait());
    EXPECT_EQ(result.status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_THAT(result.events, SizeIs(0));
  }
  EXPECT_EQ(dispatcher.breaker().state("a 0"), CircuitBreaker::State::kOpen);
}

TEST_F(HungTargetTest, SilenceAfterATokenEndsTheStream) {
  Dispatcher dispatcher(&resolver_, real_, ImpatientLater());
  resolver_.Add("a", {.words = {"half"}, .hang = true});
  const auto other = resolver_.Add("b", {.words = {"x"}});
  Result result;
  const auto call = Ask(dispatcher, {"a", "b"}, result);
  ASSERT_TRUE(result.done.Wait());
  EXPECT_EQ(result.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(Message(result.status), "expert a: no token came within 0.08 s");
  EXPECT_EQ(result.text(), "half");
  EXPECT_EQ(result.outcome.expert(), "a");
  EXPECT_THAT(other->requests(), SizeIs(0));
}

TEST_F(HungTargetTest, APausedReaderMakesNobodyLate) {
  Dispatcher dispatcher(&resolver_, real_, ImpatientLater());
  resolver_.Add("a", {.words = {"half"}, .hang = true});
  Result result;
  const auto call = Ask(dispatcher, {"a"}, result);
  call->Pause();
  absl::SleepFor(4 * kPatience);
  EXPECT_FALSE(result.done.HasHappened());
  call->Resume();
  const absl::Time resumed = absl::Now();
  ASSERT_TRUE(result.done.Wait());
  EXPECT_GE(absl::Now() - resumed, kPatience);
  EXPECT_EQ(result.text(), "half");
}

TEST_F(HungTargetTest, ManyThatTalkAreLeftAlone) {
  Dispatcher dispatcher(&resolver_, real_, ImpatientLater());
  resolver_.Add("a", {.words = {"w"}, .endless = true});
  std::vector<std::unique_ptr<Result>> results;
  std::vector<std::unique_ptr<StreamCall>> calls;
  for (int i = 0; i < 4; ++i) {
    results.push_back(std::make_unique<Result>());
    calls.push_back(Ask(dispatcher, {"a"}, *results.back()));
  }
  absl::SleepFor(3 * kPatience);
  for (auto& call : calls) call->Cancel();
  for (auto& result : results) {
    ASSERT_TRUE(result->done.Wait());
    EXPECT_EQ(result->status.code(), absl::StatusCode::kCancelled);
  }
}

TEST_F(HungTargetTest, EmbedGivesEachTargetItsTime) {
  Dispatcher dispatcher(&resolver_, real_, Impatient());
  const auto target = resolver_.Add("a", {});
  v1::EmbedRequest request;
  request.add_inputs("x");
  ASSERT_TRUE(
      dispatcher
          .Embed(request, {"a"}, registry::Snapshot(), absl::InfiniteFuture())
          .ok());
  EXPECT_LE(target->embed_deadline, absl::Now() + kPatience);
}

TEST_F(DispatcherTest, EmbedFallsBackToo) {
  resolver_.Add("a", {.status = Unavailable("down")});
  resolver_.Add("b", {});
  v1::EmbedRequest request;
  request.add_inputs("x");
  const registry::Snapshot snapshot;
  auto response = dispatcher_.Embed(request, {"none", "a", "b"}, snapshot,
                                    absl::InfiniteFuture());
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->embeddings_size(), 1);
  response =
      dispatcher_.Embed(request, {"a"}, snapshot, absl::InfiniteFuture());
  EXPECT_EQ(Message(response.status()), "expert a: down");
}

}  // namespace
}  // namespace conclave::router
