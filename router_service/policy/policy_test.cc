#include "router_service/policy/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <numeric>
#include <random>
#include <thread>

#include "router_service/classify/test_texts.h"
#include "router_service/policy/test_snapshot.h"

namespace conclave::router {
namespace {

using registry::ExpertState;
using registry::Snapshot;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);

std::shared_ptr<const Snapshot> Share(Snapshot snapshot) {
  return std::make_shared<const Snapshot>(std::move(snapshot));
}

void Learn(RoutingPolicy* policy, const Snapshot& snapshot) {
  policy->OnSnapshot(Share(snapshot));
  ASSERT_TRUE(policy->WaitForAllTiers(kLong));
}

v1::RouteRequest Ask(const std::string& text, const std::string& model = "") {
  v1::RouteRequest request;
  request.set_request_id("r-1");
  request.set_model(model);
  request.set_text(text);
  return request;
}

PolicyDependencies WithEncoder() {
  PolicyDependencies dependencies;
  dependencies.embed = FakeEmbed;
  return dependencies;
}

void SetState(Snapshot* snapshot, const std::string& name, ExpertState state) {
  registry::ExpertSpec spec = *snapshot->experts.at(name);
  spec.state = state;
  ++spec.version;
  Put(snapshot, spec);
}

TEST(PolicyTest, CodeGoesToTheCoderAndSmallTalkToChat) {
  const Snapshot snapshot = TestSnapshot();
  RoutingPolicy policy({}, WithEncoder());
  Learn(&policy, snapshot);
  const auto code =
      policy.Decide(Ask("reverse a linked list in python"), snapshot);
  ASSERT_TRUE(code.ok()) << code.status();
  EXPECT_EQ(code->decision.expert(), "coder");
  EXPECT_EQ(code->decision.category(), "code");
  EXPECT_EQ(code->decision.request_id(), "r-1");
  EXPECT_EQ(code->decision.versions().at("registry"),
            std::to_string(snapshot.revision));
  EXPECT_THAT(code->decision.why(), HasSubstr("only coder serves it"));
  EXPECT_THAT(code->decision.why(), HasSubstr("statistics has no samples"));
  EXPECT_THAT(code->candidates, ElementsAre("coder", "chat"));
  const auto talk = policy.Decide(Ask("hello, how are you?"), snapshot);
  ASSERT_TRUE(talk.ok());
  EXPECT_EQ(talk->decision.expert(), "chat");
}

TEST(PolicyTest, RouteAndGenerateAreOnePath) {
  const Snapshot snapshot = TestSnapshot();
  FakeClock clock;
  PolicyDependencies dependencies = WithEncoder();
  dependencies.clock = &clock;
  RoutingPolicy policy({}, dependencies);
  Learn(&policy, snapshot);
  v1::GenerateRequest generate;
  generate.set_request_id("r-1");
  generate.set_model("auto");
  generate.set_text("implement quicksort in rust");
  const auto a = policy.Decide(generate, snapshot);
  const auto b = policy.Decide(Ask(generate.text()), snapshot);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->decision.DebugString(), b->decision.DebugString());
  EXPECT_EQ(a->decision.router_us(), 0);  // the given clock stands still
}

TEST(PolicyTest, PosteriorSumsToOneWhateverTheText) {
  const Snapshot snapshot = TestSnapshot();
  RoutingPolicy policy({}, WithEncoder());
  Learn(&policy, snapshot);
  std::mt19937 random(4);
  for (int round = 0; round < 60; ++round) {
    const size_t size = round == 0 ? 1 << 20 : 1 + random() % 4000;
    std::string text(size, '\0');
    for (char& c : text) c = static_cast<char>(random());
    v1::RouteRequest request;
    // protobuf refuses invalid UTF-8 on the wire, not in memory.
    request.set_text("x" + text);
    const auto routing = policy.Decide(request, snapshot);
    ASSERT_TRUE(routing.ok()) << routing.status();
    double sum = 0;
    for (const auto& [category, p] : routing->decision.posterior()) sum += p;
    ASSERT_NEAR(sum, 1, 1e-9);
    double propensity = 0;
    for (const auto& c : routing->decision.candidates()) {
      propensity += c.propensity();
    }
    ASSERT_NEAR(propensity, 1, 1e-12);
  }
}

TEST(PolicyTest, LikeNothingRegisteredGoesToGeneral) {
  const Snapshot snapshot = TestSnapshot();
  RoutingPolicy policy;  // the stand-in encoder knows no novelty
  Learn(&policy, snapshot);
  const auto routing =
      policy.Decide(Ask("Ζητώ ωρολόγιον; žlutý kůň 東京タワー ∑∆∏"), snapshot);
  ASSERT_TRUE(routing.ok());
  EXPECT_EQ(routing->decision.category(), "general");
  EXPECT_EQ(routing->decision.expert(), "chat");
  EXPECT_GT(routing->decision.novelty(), 0.9);
}

TEST(PolicyTest, UnsureGoesToGeneral) {
  const Snapshot snapshot = TestSnapshot();
  PolicyOptions options;
  options.unsure_below = 1.1;  // never sure
  RoutingPolicy policy(options);
  Learn(&policy, snapshot);
  const auto routing =
      policy.Decide(Ask("reverse a linked list in python"), snapshot);
  ASSERT_TRUE(routing.ok());
  EXPECT_EQ(routing->decision.expert(), "chat");
  EXPECT_THAT(routing->decision.why(), HasSubstr("unsure (code"));
}

TEST(PolicyTest, NamesBypass) {
  const Snapshot snapshot = TestSnapshot();
  const RoutingPolicy policy;
  const auto expert = policy.Decide(Ask("x", "lawyer"), snapshot);
  ASSERT_TRUE(expert.ok());
  EXPECT_EQ(expert->decision.expert(), "lawyer");
  EXPECT_EQ(expert->decision.tier(), "bypass");
  EXPECT_EQ(expert->decision.candidates(0).propensity(), 1);
  EXPECT_THAT(expert->candidates, ElementsAre("lawyer"));
  EXPECT_EQ(policy.Decide(Ask("x", "fast"), snapshot)->decision.expert(),
            "chat");
  const auto model = policy.Decide(Ask("", "coder-model"), snapshot);
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(model->decision.expert(), "coder");
  EXPECT_THAT(model->decision.why(), HasSubstr("coder-model, which is coder"));
}

TEST(PolicyTest, UnknownNamesAreAnsweredWithTheNearest) {
  const RoutingPolicy policy;
  const auto unknown = policy.Decide(Ask("x", "codr"), TestSnapshot());
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Message(unknown.status())), HasSubstr("coder"));
  // A model that nobody runs is not served.
  EXPECT_EQ(
      policy.Decide(Ask("x", "idle-model"), TestSnapshot()).status().code(),
      absl::StatusCode::kNotFound);
}

TEST(PolicyTest, JoiningAndDrainingAreNeverChosen) {
  for (ExpertState state :
       {ExpertState::kJoining, ExpertState::kDraining, ExpertState::kGone}) {
    Snapshot snapshot = TestSnapshot();
    SetState(&snapshot, "coder", state);
    RoutingPolicy policy({}, WithEncoder());
    Learn(&policy, snapshot);
    const auto routing =
        policy.Decide(Ask("reverse a linked list in python"), snapshot);
    ASSERT_TRUE(routing.ok());
    EXPECT_EQ(routing->decision.expert(), "chat");
    for (const auto& candidate : routing->decision.candidates()) {
      EXPECT_NE(candidate.expert(), "coder");
    }
    EXPECT_EQ(policy.Decide(Ask("x", "coder"), snapshot).status().code(),
              absl::StatusCode::kUnavailable);
  }
}

TEST(PolicyTest, APromptExpertNeedsItsBase) {
  Snapshot snapshot = TestSnapshot();
  const RoutingPolicy policy;
  EXPECT_TRUE(policy.Decide(Ask("x", "pirate"), snapshot).ok());
  SetState(&snapshot, "chat", ExpertState::kDraining);
  const auto routing = policy.Decide(Ask("x", "pirate"), snapshot);
  EXPECT_EQ(routing.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(Message(routing.status())),
              HasSubstr("chat is draining, and pirate is based on it"));
}

TEST(PolicyTest, NobodyToAnswer) {
  const RoutingPolicy policy;
  const absl::Status none = policy.Decide(Ask("hi"), Snapshot()).status();
  EXPECT_EQ(none.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Message(none)), HasSubstr("conclave expert add"));
  Snapshot snapshot;
  Put(&snapshot, Expert("a", {"code"}, {}));
  SetState(&snapshot, "a", ExpertState::kJoining);
  EXPECT_EQ(policy.Decide(Ask("hi"), snapshot).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(PolicyTest, WithoutSamplesItSaysSo) {
  Snapshot snapshot;
  Put(&snapshot, Expert("a", {"code"}, {}));
  Put(&snapshot, Expert("b", {"general"}, {}));
  RoutingPolicy policy;
  Learn(&policy, snapshot);
  const auto routing = policy.Decide(Ask("hi"), snapshot);
  ASSERT_TRUE(routing.ok());
  EXPECT_EQ(routing->decision.expert(), "b");
  EXPECT_THAT(routing->decision.why(), HasSubstr("no samples to recognise"));
  EXPECT_THAT(routing->decision.why(), HasSubstr("code has no samples"));
}

TEST(PolicyTest, SharedCategoryNeedsSamplesOnce) {
  Snapshot snapshot = TestSnapshot();
  registry::ExpertSpec second = Expert("coder-large", {"code"}, {});
  second.quality = 0.9;
  Put(&snapshot, second);
  RoutingPolicy policy({}, WithEncoder());
  Learn(&policy, snapshot);
  const auto routing =
      policy.Decide(Ask("reverse a linked list in python"), snapshot);
  ASSERT_TRUE(routing.ok());
  EXPECT_THAT(routing->candidates, ElementsAre("coder-large", "coder", "chat"));
  EXPECT_THAT(routing->decision.why(),
              HasSubstr("coder-large scores best of 2"));
}

TEST(PolicyTest, EmptyTextAndTokens) {
  const Snapshot snapshot = TestSnapshot();
  RoutingPolicy policy;
  Learn(&policy, snapshot);
  EXPECT_EQ(policy.Decide(Ask(" \n "), snapshot).status().code(),
            absl::StatusCode::kInvalidArgument);
  v1::GenerateRequest request;
  EXPECT_EQ(policy.Decide(request, snapshot).status().code(),
            absl::StatusCode::kInvalidArgument);
  request.mutable_tokens()->add_ids(5);
  const auto routing = policy.Decide(request, snapshot);
  ASSERT_TRUE(routing.ok());
  EXPECT_EQ(routing->decision.expert(), "chat");
  EXPECT_THAT(routing->decision.why(), HasSubstr("token ids"));
}

TEST(PolicyTest, AFailingEncoderIsStated) {
  std::atomic<bool> up = true;
  PolicyDependencies dependencies;
  dependencies.embed =
      [&](std::string_view text) -> absl::StatusOr<std::vector<float>> {
    if (!up) return Unavailable("gone");
    return FakeEmbed(text);
  };
  const Snapshot snapshot = TestSnapshot();
  RoutingPolicy policy({}, dependencies);
  Learn(&policy, snapshot);
  const auto with = policy.Decide(Ask("implement a parser"), snapshot);
  ASSERT_TRUE(with.ok());
  EXPECT_EQ(with->decision.tier(), "encoder");
  up = false;
  const auto without = policy.Decide(Ask("implement a parser"), snapshot);
  ASSERT_TRUE(without.ok());
  EXPECT_EQ(without->decision.tier(), "ngram");
  EXPECT_THAT(without->decision.why(),
              HasSubstr("the encoder did not answer (UNAVAILABLE)"));
}

TEST(PolicyTest, AnAddedExpertIsServedByTheNextRequests) {
  Snapshot snapshot = TestSnapshot();
  RoutingPolicy policy({}, WithEncoder());
  Learn(&policy, snapshot);
  const v1::RouteRequest request =
      Ask("how many grams of flour go into a sourdough loaf");
  EXPECT_NE(policy.Decide(request, snapshot)->decision.expert(), "baker");
  Put(&snapshot,
      Expert("baker", {"baking"},
             {"how long should sourdough rise", "bake a loaf of rye bread",
              "which flour is best for pizza dough",
              "how many grams of yeast for one loaf",
              "why is my bread dough sticky", "recipe for butter croissants",
              "temperature to bake a chocolate cake",
              "how much flour and water for a baguette"}));
  Learn(&policy, snapshot);
  EXPECT_EQ(policy.Decide(request, snapshot)->decision.expert(), "baker");
}

TEST(PolicyTest, ExplorationIsLogged) {
  Snapshot snapshot = TestSnapshot();
  Put(&snapshot, Expert("coder-2", {"code"}, {}));
  PolicyOptions options;
  options.select.epsilon = 0.2;
  PolicyDependencies dependencies = WithEncoder();
  dependencies.random = [] { return 0.15; };  // second of two halves of .2
  RoutingPolicy policy(options, dependencies);
  Learn(&policy, snapshot);
  const auto routing =
      policy.Decide(Ask("reverse a linked list in python"), snapshot);
  ASSERT_TRUE(routing.ok());
  EXPECT_EQ(routing->decision.expert(), "coder-2");
  EXPECT_NEAR(routing->decision.candidates(0).propensity(), 0.1, 1e-12);
  EXPECT_NEAR(routing->decision.candidates(1).propensity(), 0.9, 1e-12);
  EXPECT_THAT(routing->decision.why(), HasSubstr("drawn to explore"));
}

TEST(PolicyTest, HeartbeatsDoNotRetrain) {
  Snapshot snapshot = TestSnapshot();
  RoutingPolicy policy({}, WithEncoder());
  Learn(&policy, snapshot);
  const auto before = policy.live().current();
  snapshot.workers["w"] = {.name = "w", .address = "a", .models = {}};
  ++snapshot.revision;
  Learn(&policy, snapshot);
  EXPECT_EQ(policy.live().current(), before);
}

TEST(PolicyTest, DecisionsWhileSnapshotsChange) {
  RoutingPolicy policy({}, WithEncoder());
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  const Snapshot base = TestSnapshot();
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      while (!stop) {
        const auto routing = policy.Decide(Ask("parse json in java"), base);
        ASSERT_TRUE(routing.ok());
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    Snapshot snapshot = base;
    Put(&snapshot, Expert("e" + std::to_string(i), {"more"},
                          {"sample " + std::to_string(i)}));
    policy.OnSnapshot(Share(snapshot));
  }
  EXPECT_TRUE(policy.WaitForAllTiers(kLong));
  stop = true;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace conclave::router
