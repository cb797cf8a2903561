// Decisions as text, reviewed as diffs: tests/golden/routing/decisions.txt.
// CONCLAVE_UPDATE_GOLDEN=1 writes the file anew.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "router_service/classify/test_texts.h"
#include "router_service/policy/policy.h"
#include "router_service/policy/test_snapshot.h"

namespace conclave::router {
namespace {

constexpr char kPath[] = "tests/golden/routing/decisions.txt";

constexpr const char* kQueries[] = {
    "reverse a linked list in Rust",
    "REVERSE A LINKED LIST IN RUST!!!",
    "why does my pyhton fuction crash",
    "hello there, how are you",
    "tell me something funny",
    "is my contract with the landlord binding",
    "act as a pirate and describe your ship",
    "compute the variance of this sample",
    "write a contract clause and a python function",
    "zzzz qqqq xxxx",
    "東京の天気はどうですか",
    "1234567890",
    "a",
};

std::string Describe(const std::string& query, const Routing& routing) {
  const v1::Decision& decision = routing.decision;
  std::string text =
      fmt::format("> {}\n  {} | {} {:.2f} | novelty {:.2f} | {}\n  {}\n", query,
                  decision.expert(), decision.category(), decision.confidence(),
                  decision.novelty(), decision.tier(), decision.why());
  for (const auto& candidate : decision.candidates()) {
    text += fmt::format(
        "  - {}: quality {:.2f}, cost {:.2f}, score {:.2f}, "
        "propensity {:.2f}; {}\n",
        candidate.expert(), candidate.quality(), candidate.cost(),
        candidate.score(), candidate.propensity(), candidate.why());
  }
  return text;
}

std::string AllDecisions() {
  registry::Snapshot snapshot = TestSnapshot();
  registry::ExpertSpec large = Expert("coder-large", {"code"}, {});
  large.quality = 0.75;
  large.cost = 2;
  Put(&snapshot, large);
  std::string text;
  for (const bool encoder : {false, true}) {
    PolicyDependencies dependencies;
    if (encoder) dependencies.embed = FakeEmbed;
    RoutingPolicy policy({}, dependencies);
    policy.OnSnapshot(std::make_shared<const registry::Snapshot>(snapshot));
    EXPECT_TRUE(policy.WaitForAllTiers(absl::Seconds(60)));
    text += fmt::format(
        "# {}\n", encoder ? "n-grams and a stand-in encoder" : "n-grams alone");
    for (const char* query : kQueries) {
      v1::RouteRequest request;
      request.set_text(query);
      const auto routing = policy.Decide(request, snapshot);
      EXPECT_TRUE(routing.ok()) << routing.status();
      if (routing.ok()) text += Describe(query, *routing);
    }
  }
  return text;
}

TEST(GoldenRoutingTest, DecisionsAreAsReviewed) {
  const std::string got = AllDecisions();
  if (std::getenv("CONCLAVE_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(kPath) << got;
  }
  std::ifstream file(kPath);
  ASSERT_TRUE(file) << kPath << " is missing; run from the repository's root";
  std::stringstream wanted;
  wanted << file.rdbuf();
  EXPECT_EQ(got, wanted.str());
}

}  // namespace
}  // namespace conclave::router
