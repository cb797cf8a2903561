// What every implementation of registry::Registry must do. An implementation
// instantiates the suite with a factory:
//
//   INSTANTIATE_TEST_SUITE_P(RocksDb, RegistryContract,
//                            testing::Values(&MakeRocksDbFixture));
//
// Header-only, so that no library has to hold tests.
#ifndef CONCLAVE_TESTS_CONTRACT_REGISTRY_CONTRACT_H_
#define CONCLAVE_TESTS_CONTRACT_REGISTRY_CONTRACT_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "registry/limits.h"
#include "registry/registry.h"
#include "tests/contract/registry_testing.h"

namespace conclave::registry {

// Holds one durable place; Open() may be called again after the registry it
// gave has been destroyed, and finds what was acknowledged.
class RegistryFixture {
 public:
  virtual ~RegistryFixture() = default;
  virtual std::unique_ptr<Registry> Open() = 0;
  FakeClock clock;
};
using MakeRegistryFixture = std::unique_ptr<RegistryFixture> (*)();

class RegistryContract : public testing::TestWithParam<MakeRegistryFixture> {
 protected:
  void SetUp() override {
    fixture_ = GetParam()();
    registry_ = fixture_->Open();
    ASSERT_OK_STATUS(registry_->PutModel(SomeModel("small")));
  }
  void Reopen() {
    registry_.reset();
    registry_ = fixture_->Open();
  }
  absl::StatusOr<ExpertSpec> Add(const std::string& name,
                                 std::vector<std::string> categories = {
                                     "general"}) {
    return registry_->RegisterExpert(
        OnModel(name, "small", std::move(categories)), "");
  }
  ExpertState StateOf(const std::string& name) {
    const auto state = registry_->snapshot();
    const auto found = state->experts.find(name);
    return found == state->experts.end() ? ExpertState::kGone
                                         : found->second->state;
  }

  std::unique_ptr<RegistryFixture> fixture_;
  std::unique_ptr<Registry> registry_;
};

TEST_P(RegistryContract, RegisteredExpertIsInTheSnapshotWithItsVersion) {
  const auto before = registry_->snapshot();
  const auto added = Add("chat");
  ASSERT_OK_STATUS(added);
  EXPECT_EQ(added->state, ExpertState::kJoining);
  EXPECT_GT(added->version, 0u);
  EXPECT_EQ(added->created_unix_ms, absl::ToUnixMillis(fixture_->clock.Now()));
  const auto after = registry_->snapshot();
  EXPECT_GT(after->revision, before->revision);
  EXPECT_EQ(*after->experts.at("chat"), *added);
  EXPECT_TRUE(before->experts.empty()) << "a snapshot changed under a reader";
}

TEST_P(RegistryContract, SecondExpertOfANameIsRefused) {
  ASSERT_OK_STATUS(Add("chat"));
  EXPECT_STATUS(Add("chat"), kAlreadyExists, "remove it first");
  ASSERT_OK_STATUS(registry_->SetAlias("talk", "chat", 0, ""));
  EXPECT_STATUS(Add("talk"), kAlreadyExists, "alias");
}

TEST_P(RegistryContract, MissingModelBaseAndWorkerAreNamed) {
  EXPECT_STATUS(
      registry_->RegisterExpert(OnModel("chat", "smal", {"general"}), ""),
      kNotFound, "Did you mean: small?");
  ExpertSpec prompt = OnModel("pirate", "", {"roleplay"});
  prompt.base = "chat";
  prompt.prompt = "Arr.";
  EXPECT_STATUS(registry_->RegisterExpert(prompt, ""), kNotFound, "\"chat\"");
  ExpertSpec placed = OnModel("placed", "small", {"code"});
  placed.worker = "box";
  EXPECT_STATUS(registry_->RegisterExpert(placed, ""), kNotFound,
                "worker \"box\" has not joined");
  EXPECT_TRUE(registry_->snapshot()->experts.empty());
}

TEST_P(RegistryContract, ExactlyOneSource) {
  ExpertSpec none = OnModel("a", "", {"general"});
  EXPECT_STATUS(registry_->RegisterExpert(none, ""), kInvalidArgument,
                "exactly one");
  ExpertSpec two = OnModel("a", "small", {"general"});
  two.endpoint.url = "http://127.0.0.1:1/v1";
  EXPECT_STATUS(registry_->RegisterExpert(two, ""), kInvalidArgument,
                "exactly one");
  ExpertSpec bare_base = OnModel("a", "", {"general"});
  bare_base.base = "b";
  EXPECT_STATUS(registry_->RegisterExpert(bare_base, ""), kInvalidArgument,
                "go together");
  ExpertSpec stray_prompt = OnModel("a", "small", {"general"});
  stray_prompt.prompt = "p";
  EXPECT_STATUS(registry_->RegisterExpert(stray_prompt, ""), kInvalidArgument,
                "go together");
}

TEST_P(RegistryContract, HostileFieldsAreRefused) {
  const auto refused = [&](const auto& edit, const std::string& why) {
    ExpertSpec spec = OnModel("a", "small", {"general"});
    edit(spec);
    EXPECT_STATUS(registry_->RegisterExpert(spec, ""), kInvalidArgument, why);
  };
  refused([](ExpertSpec& s) { s.name = "../etc"; }, "not valid");
  refused([](ExpertSpec& s) { s.name = "auto"; }, "reserved");
  refused([](ExpertSpec& s) { s.name = ""; }, "not valid");
  refused([](ExpertSpec& s) { s.categories.clear(); }, "no category");
  refused([](ExpertSpec& s) { s.categories = {"a", "a"}; }, "twice");
  refused([](ExpertSpec& s) { s.categories = {"A B"}; }, "not valid");
  refused(
      [](ExpertSpec& s) {
        s.categories.clear();
        for (size_t i = 0; i <= kMaxCategories; ++i) {
          s.categories.push_back("c" + std::to_string(i));
        }
      },
      "limit");
  refused(
      [](ExpertSpec& s) {
        s.samples.resize(kMaxSamples + 1, {"x", ""});
      },
      "limit");
  refused(
      [](ExpertSpec& s) {
        s.samples = {{std::string(kMaxSampleBytes + 1, 'x'), ""}};
      },
      "sample 1");
  refused(
      [](ExpertSpec& s) {
        s.samples = {{"x", ""}, {"\xff", ""}};
      },
      "sample 2");
  refused([](ExpertSpec& s) { s.samples = {{"x", "law"}}; }, "law");
  refused(
      [](ExpertSpec& s) {
        s.samples.assign(2000, {std::string(kMaxSampleBytes, 'x'), ""});
      },
      "limit");
  refused([](ExpertSpec& s) { s.quality = 1.01; }, "quality");
  refused(
      [](ExpertSpec& s) {
        s.quality = std::numeric_limits<double>::quiet_NaN();
      },
      "quality");
  refused([](ExpertSpec& s) { s.cost = -1; }, "cost");
  const auto endpoint = [](const std::string& url) {
    return [url](ExpertSpec& s) {
      s.model.clear();
      s.endpoint.url = url;
    };
  };
  refused(endpoint("127.0.0.1:9000"), "URL");
  refused(endpoint("file:///etc/passwd"), "URL");
  refused(endpoint("http://"), "URL");
  refused(endpoint("http://a b/v1"), "URL");
  refused(endpoint("https://user:pw@host/v1"), "api_key_env");
  refused(
      [](ExpertSpec& s) {
        s.model.clear();
        s.endpoint.url = "http://h/v1";
        s.endpoint.api_key_env = "sk-12345";
      },
      "never the key");
  EXPECT_TRUE(registry_->snapshot()->experts.empty());
}

TEST_P(RegistryContract, BaseChainsAreAtMostFourDeep) {
  ASSERT_OK_STATUS(Add("e0"));
  for (int i = 1; i <= 5; ++i) {
    ExpertSpec spec = OnModel("e" + std::to_string(i), "", {"general"});
    spec.base = "e" + std::to_string(i - 1);
    spec.prompt = "p";
    const auto added = registry_->RegisterExpert(spec, "");
    if (i <= 4) {
      EXPECT_TRUE(added.ok()) << i << added.status();
    } else {
      EXPECT_STATUS(added, kInvalidArgument, "more than 4");
    }
  }
}

// joining <-> serving, as workers come and go; then draining, then gone.
TEST_P(RegistryContract, AnExpertServesWhileSomebodyCanAnswerForIt) {
  const absl::Duration lease = absl::Seconds(6);
  const auto added = Add("chat");
  ASSERT_OK_STATUS(added);
  EXPECT_EQ(added->state, ExpertState::kJoining);
  ExpertSpec pirate = OnModel("pirate", "", {"roleplay"});
  pirate.base = "chat";
  pirate.prompt = "Arr.";
  ASSERT_OK_STATUS(registry_->RegisterExpert(pirate, ""));
  EXPECT_EQ(StateOf("pirate"), ExpertState::kJoining);
  ExpertSpec upstream;
  upstream.name = "gpu-box";
  upstream.endpoint.url = "http://127.0.0.1:9000/v1";
  upstream.categories = {"law"};
  const auto there = registry_->RegisterExpert(upstream, "");
  ASSERT_OK_STATUS(there);
  EXPECT_EQ(there->state, ExpertState::kServing);

  std::vector<std::string> seen;
  auto handle = registry_->Watch(
      [&](const ChangeEvent& event, std::shared_ptr<const Snapshot> state) {
        if (event.kind != ChangeEvent::Kind::kExpert) return;
        const bool serves =
            state->experts.at(event.name)->state == ExpertState::kServing;
        seen.push_back(event.name + (serves ? " serves" : " joins"));
      });
  const auto other = registry_->JoinWorker("other", "h:1", {"v-big"}, lease);
  ASSERT_OK_STATUS(other);
  EXPECT_EQ(StateOf("chat"), ExpertState::kJoining);
  const auto box = registry_->JoinWorker("box", "h:2", {"v-small"}, lease);
  ASSERT_OK_STATUS(box);
  EXPECT_EQ(StateOf("chat"), ExpertState::kServing);
  EXPECT_EQ(StateOf("pirate"), ExpertState::kServing);
  EXPECT_EQ(registry_->snapshot()->experts.at("chat")->version, added->version);
  // A new one serves from the start, unless it is placed elsewhere.
  ASSERT_OK_STATUS(Add("chat2"));
  EXPECT_EQ(StateOf("chat2"), ExpertState::kServing);
  ExpertSpec placed = OnModel("placed", "small", {"code"});
  placed.worker = "other";
  ASSERT_OK_STATUS(registry_->RegisterExpert(placed, ""));
  EXPECT_EQ(StateOf("placed"), ExpertState::kJoining);
  ASSERT_OK_STATUS(registry_->HeartbeatWorker("other", other->epoch,
                                              {"v-big", "v-small"}, lease));
  EXPECT_EQ(StateOf("placed"), ExpertState::kServing);

  handle.reset();  // Before the registry that it watches.
  Reopen();        // The leases go on.
  EXPECT_EQ(StateOf("placed"), ExpertState::kServing);
  ASSERT_OK_STATUS(registry_->LeaveWorker("other", other->epoch));
  EXPECT_EQ(StateOf("placed"), ExpertState::kJoining);
  EXPECT_EQ(StateOf("chat"), ExpertState::kServing);
  ASSERT_OK_STATUS(registry_->RemoveExpert("pirate", 0, ""));
  ASSERT_OK_STATUS(registry_->DrainExpert("chat", 0, ""));
  fixture_->clock.Advance(2 * lease);
  registry_->ExpireLeases();
  EXPECT_EQ(StateOf("chat"), ExpertState::kDraining);
  EXPECT_EQ(StateOf("chat2"), ExpertState::kJoining);
  EXPECT_EQ(StateOf("gpu-box"), ExpertState::kServing);
  EXPECT_THAT(
      seen, testing::ElementsAre("chat serves", "pirate serves", "chat2 serves",
                                 "placed joins", "placed serves"));
}

TEST_P(RegistryContract, AJoiningExpertIsNoReplacementForAServingOne) {
  ASSERT_OK_STATUS(registry_->PutModel(SomeModel("big")));
  ASSERT_OK_STATUS(
      registry_->JoinWorker("box", "h:1", {"v-small"}, absl::Seconds(6)));
  ASSERT_OK_STATUS(Add("chat"));
  ASSERT_OK_STATUS(Add("coder", {"code"}));
  ASSERT_OK_STATUS(
      registry_->RegisterExpert(OnModel("spare", "big", {"general"}), ""));
  EXPECT_STATUS(registry_->DrainExpert("chat", 0, ""), kFailedPrecondition,
                "last one");
  ASSERT_OK_STATUS(registry_->DrainExpert("spare", 0, ""));
}

TEST_P(RegistryContract, DrainThenRemove) {
  ASSERT_OK_STATUS(Add("chat"));
  ASSERT_OK_STATUS(Add("coder", {"code"}));
  const auto drained = registry_->DrainExpert("coder", 0, "");
  ASSERT_OK_STATUS(drained);
  EXPECT_EQ(drained->state, ExpertState::kDraining);
  EXPECT_EQ(StateOf("coder"), ExpertState::kDraining);
  const uint64_t revision = registry_->snapshot()->revision;
  const auto again = registry_->DrainExpert("coder", 0, "");
  ASSERT_OK_STATUS(again);
  EXPECT_EQ(*again, *drained);
  EXPECT_EQ(registry_->snapshot()->revision, revision);
  ASSERT_OK_STATUS(registry_->RemoveExpert("coder", drained->version, ""));
  EXPECT_EQ(StateOf("coder"), ExpertState::kGone);
  EXPECT_STATUS(registry_->RemoveExpert("coder", 0, ""), kNotFound, "coder");
  EXPECT_STATUS(registry_->DrainExpert("chatt", 0, ""), kNotFound,
                "Did you mean: chat?");
}

TEST_P(RegistryContract, LastGeneralExpertStaysWhileOthersServe) {
  ASSERT_OK_STATUS(Add("coder", {"code"}));  // First of all, none general.
  ASSERT_OK_STATUS(Add("chat"));
  EXPECT_STATUS(registry_->DrainExpert("chat", 0, ""), kFailedPrecondition,
                "register another general expert first");
  EXPECT_STATUS(registry_->RemoveExpert("chat", 0, ""), kFailedPrecondition,
                "register another general expert first");
  ASSERT_OK_STATUS(Add("chat2"));
  ASSERT_OK_STATUS(registry_->DrainExpert("chat", 0, ""));
  // A draining expert is no replacement for the last serving one.
  EXPECT_STATUS(registry_->RemoveExpert("chat2", 0, ""), kFailedPrecondition,
                "last one");
  ASSERT_OK_STATUS(registry_->RemoveExpert("coder", 0, ""));
  ASSERT_OK_STATUS(registry_->RemoveExpert("chat2", 0, ""));
  ASSERT_OK_STATUS(registry_->RemoveExpert("chat", 0, ""));
  EXPECT_TRUE(registry_->snapshot()->experts.empty());
}

TEST_P(RegistryContract, ABaseStaysUnderWhatStandsOnIt) {
  ASSERT_OK_STATUS(Add("chat"));
  ASSERT_OK_STATUS(Add("chat2"));
  ExpertSpec pirate = OnModel("pirate", "", {"roleplay"});
  pirate.base = "chat";
  pirate.prompt = "Arr.";
  ASSERT_OK_STATUS(registry_->RegisterExpert(pirate, ""));
  EXPECT_STATUS(registry_->DrainExpert("chat", 0, ""), kFailedPrecondition,
                "pirate");
  ASSERT_OK_STATUS(registry_->RemoveExpert("pirate", 0, ""));
  ASSERT_OK_STATUS(registry_->DrainExpert("chat", 0, ""));
  EXPECT_STATUS(registry_->RegisterExpert(pirate, ""), kFailedPrecondition,
                "draining");
}

TEST_P(RegistryContract, CompareAndSetByVersion) {
  const auto chat = Add("chat");
  ASSERT_OK_STATUS(chat);
  EXPECT_STATUS(registry_->DrainExpert("chat", chat->version + 1, ""), kAborted,
                "version");
  EXPECT_STATUS(registry_->RemoveExpert("chat", chat->version + 1, ""),
                kAborted, "version");
  ASSERT_OK_STATUS(registry_->RemoveExpert("chat", chat->version, ""));
  const auto reborn = Add("chat");
  ASSERT_OK_STATUS(reborn);
  EXPECT_GT(reborn->version, chat->version) << "versions never come again";
}

TEST_P(RegistryContract, AliasesAreSetAndRemovedByVersion) {
  ASSERT_OK_STATUS(Add("chat"));
  ASSERT_OK_STATUS(Add("chat2"));
  EXPECT_STATUS(registry_->SetAlias("best", "chat", 7, ""), kAborted,
                "not set");
  const auto first = registry_->SetAlias("best", "chat", 0, "");
  ASSERT_OK_STATUS(first);
  EXPECT_EQ(registry_->snapshot()->aliases.at("best"), *first);
  EXPECT_EQ(first->expert, "chat");
  const auto second = registry_->SetAlias("best", "chat2", first->version, "");
  ASSERT_OK_STATUS(second);
  EXPECT_GT(second->version, first->version);
  // Who read the first one comes too late.
  EXPECT_STATUS(registry_->SetAlias("best", "chat", first->version, ""),
                kAborted, "read it again");
  EXPECT_STATUS(registry_->RemoveAlias("best", first->version, ""), kAborted,
                "version");
  EXPECT_EQ(registry_->snapshot()->aliases.at("best"), *second);
  Reopen();
  EXPECT_EQ(registry_->snapshot()->aliases.at("best"), *second);
  ASSERT_OK_STATUS(registry_->RemoveAlias("best", second->version, ""));
  const auto again = registry_->SetAlias("best", "chat2", 0, "");
  ASSERT_OK_STATUS(again);
  EXPECT_GT(again->version, second->version) << "versions never come again";
}

TEST_P(RegistryContract, ModelsAreRemovedByVersion) {
  EXPECT_STATUS(registry_->RemoveModel("small", "v-other", ""), kAborted,
                "v-small");
  EXPECT_TRUE(registry_->snapshot()->models.contains("small"));
  ASSERT_OK_STATUS(registry_->RemoveModel("small", "v-small", ""));
  EXPECT_FALSE(registry_->snapshot()->models.contains("small"));
}

TEST_P(RegistryContract, AliasesAndModelsHonourTheirKeys) {
  ASSERT_OK_STATUS(Add("chat"));
  ASSERT_OK_STATUS(Add("chat2"));
  const auto first = registry_->SetAlias("best", "chat", 0, "set");
  ASSERT_OK_STATUS(first);
  ASSERT_OK_STATUS(registry_->SetAlias("best", "chat2", 0, ""));
  EXPECT_EQ(*registry_->SetAlias("best", "chat", 0, "set"), *first);
  EXPECT_EQ(registry_->snapshot()->aliases.at("best").expert, "chat2");
  EXPECT_STATUS(registry_->SetAlias("best", "chat2", 0, "set"),
                kInvalidArgument, "another request");
  ASSERT_OK_STATUS(registry_->RemoveAlias("best", 0, "rm"));
  ASSERT_OK_STATUS(registry_->SetAlias("best", "chat", 0, ""));
  ASSERT_OK_STATUS(registry_->RemoveAlias("best", 0, "rm"));
  EXPECT_TRUE(registry_->snapshot()->aliases.contains("best"));

  ASSERT_OK_STATUS(registry_->PutModel(SomeModel("big")));
  ASSERT_OK_STATUS(registry_->RemoveModel("big", "", "rm-big"));
  ASSERT_OK_STATUS(registry_->PutModel(SomeModel("big")));
  ASSERT_OK_STATUS(registry_->RemoveModel("big", "", "rm-big"));
  EXPECT_TRUE(registry_->snapshot()->models.contains("big"));
  EXPECT_STATUS(registry_->RemoveModel("big", "v-big", "rm-big"),
                kInvalidArgument, "another request");
}

TEST_P(RegistryContract, AnImportIsFoundByItsKey) {
  const ImportCall call{
      .path = "/m/big.gguf", .name = "big", .idempotency_key = "k"};
  const auto found = [&](const ImportCall& asked) {
    return registry_->FindImport(asked);
  };
  ASSERT_OK_STATUS(found(call));
  EXPECT_FALSE(found(call)->has_value());
  ASSERT_OK_STATUS(registry_->PutModel(SomeModel("big"), call));
  ASSERT_TRUE(found(call)->has_value());
  EXPECT_EQ(**found(call), SomeModel("big"));
  ImportCall other = call;
  other.path = "/m/other.gguf";
  EXPECT_STATUS(found(other), kInvalidArgument, "another request");
  other.idempotency_key = "";
  EXPECT_FALSE(found(other)->has_value());
  other.idempotency_key = std::string(300, 'k');
  EXPECT_STATUS(found(other), kInvalidArgument, "idempotency_key");
  // What was there already is an answer too.
  const ImportCall again{
      .path = "/m/big.gguf", .name = "big", .idempotency_key = "k2"};
  const uint64_t revision = registry_->snapshot()->revision;
  ASSERT_OK_STATUS(registry_->PutModel(SomeModel("big"), again));
  EXPECT_EQ(registry_->snapshot()->revision, revision) << "nothing changed";
  Reopen();
  EXPECT_EQ(**found(call), SomeModel("big"));
  EXPECT_EQ(**found(again), SomeModel("big"));
}

TEST_P(RegistryContract, IdempotencyKeyGivesTheFirstAnswer) {
  const ExpertSpec spec = OnModel("chat", "small", {"general"});
  const auto first = registry_->RegisterExpert(spec, "key-1");
  ASSERT_OK_STATUS(first);
  fixture_->clock.Advance(absl::Seconds(5));
  const auto second = registry_->RegisterExpert(spec, "key-1");
  ASSERT_OK_STATUS(second);
  EXPECT_EQ(*first, *second);
  ExpertSpec other = spec;
  other.quality = 0.5;
  EXPECT_STATUS(registry_->RegisterExpert(other, "key-1"), kInvalidArgument,
                "another request");
  EXPECT_STATUS(registry_->DrainExpert("chat", 0, "key-1"), kInvalidArgument,
                "another request");
  EXPECT_STATUS(registry_->RegisterExpert(spec, "key-2"), kAlreadyExists, "");

  const auto drained = registry_->DrainExpert("chat", 0, "key-3");
  ASSERT_OK_STATUS(drained);
  Reopen();
  EXPECT_EQ(*registry_->RegisterExpert(spec, "key-1"), *first);
  EXPECT_EQ(*registry_->DrainExpert("chat", 0, "key-3"), *drained);
  ASSERT_OK_STATUS(registry_->RemoveExpert("chat", 0, "key-4"));
  ASSERT_OK_STATUS(Add("chat"));
  ASSERT_OK_STATUS(registry_->RemoveExpert("chat", 0, "key-4"));
  EXPECT_EQ(StateOf("chat"), ExpertState::kJoining)
      << "a replayed removal removed the next expert of that name";
  EXPECT_STATUS(registry_->RemoveExpert("chat", 0, std::string(300, 'k')),
                kInvalidArgument, "idempotency_key");
}

TEST_P(RegistryContract, AFailedCallIsNotRemembered) {
  EXPECT_STATUS(
      registry_->RegisterExpert(OnModel("m", "missing", {"general"}), "k"),
      kNotFound, "missing");
  ASSERT_OK_STATUS(registry_->PutModel(SomeModel("missing")));
  ASSERT_OK_STATUS(
      registry_->RegisterExpert(OnModel("m", "missing", {"general"}), "k"));
}

TEST_P(RegistryContract, Models) {
  const uint64_t revision = registry_->snapshot()->revision;
  ASSERT_OK_STATUS(registry_->PutModel(SomeModel("small")));
  EXPECT_EQ(registry_->snapshot()->revision, revision) << "nothing changed";
  ASSERT_OK_STATUS(Add("chat"));
  EXPECT_STATUS(registry_->RemoveModel("small", "", ""), kFailedPrecondition,
                "chat");
  EXPECT_STATUS(registry_->RemoveModel("smal", "", ""), kNotFound, "small");
  ASSERT_OK_STATUS(registry_->RemoveExpert("chat", 0, ""));
  ASSERT_OK_STATUS(registry_->RemoveModel("small", "", ""));
  EXPECT_TRUE(registry_->snapshot()->models.empty());
  ModelRecord bad = SomeModel("Big Model");
  EXPECT_STATUS(registry_->PutModel(bad), kInvalidArgument, "not valid");
}

TEST_P(RegistryContract, Aliases) {
  ASSERT_OK_STATUS(Add("chat"));
  ASSERT_OK_STATUS(Add("chat2"));
  EXPECT_STATUS(registry_->SetAlias("best", "chatt", 0, ""), kNotFound, "chat");
  EXPECT_STATUS(registry_->SetAlias("chat2", "chat", 0, ""), kAlreadyExists,
                "expert");
  ASSERT_OK_STATUS(registry_->SetAlias("best", "chat", 0, ""));
  EXPECT_STATUS(registry_->DrainExpert("chat", 0, ""), kFailedPrecondition,
                "best");
  ASSERT_OK_STATUS(registry_->SetAlias("best", "chat2", 0, ""));
  EXPECT_EQ(registry_->snapshot()->aliases.at("best").expert, "chat2");
  ASSERT_OK_STATUS(registry_->DrainExpert("chat", 0, ""));
  EXPECT_STATUS(registry_->SetAlias("old", "chat", 0, ""), kFailedPrecondition,
                "draining");
  EXPECT_STATUS(registry_->RemoveAlias("bst", 0, ""), kNotFound, "best");
  ASSERT_OK_STATUS(registry_->RemoveAlias("best", 0, ""));
  EXPECT_TRUE(registry_->snapshot()->aliases.empty());
}

TEST_P(RegistryContract, LeasesEndWithoutHeartbeats) {
  const absl::Duration lease = absl::Seconds(6);
  const auto joined = registry_->JoinWorker("box", "h:1", {"v1"}, lease);
  ASSERT_OK_STATUS(joined);
  fixture_->clock.Advance(absl::Seconds(5));
  ASSERT_OK_STATUS(
      registry_->HeartbeatWorker("box", joined->epoch, {"v1"}, lease));
  fixture_->clock.Advance(absl::Seconds(5));
  registry_->ExpireLeases();
  EXPECT_TRUE(registry_->snapshot()->workers.contains("box"));
  fixture_->clock.Advance(absl::Seconds(2));
  EXPECT_STATUS(registry_->HeartbeatWorker("box", joined->epoch, {"v1"}, lease),
                kNotFound, "join again");
  registry_->ExpireLeases();
  EXPECT_TRUE(registry_->snapshot()->workers.empty());
  EXPECT_STATUS(registry_->HeartbeatWorker("box", joined->epoch, {"v1"}, lease),
                kNotFound, "join again");
  ASSERT_OK_STATUS(registry_->LeaveWorker("box", joined->epoch));
  EXPECT_STATUS(registry_->JoinWorker("box", "h:1", {}, absl::Hours(1)),
                kInvalidArgument, "lease");
}

TEST_P(RegistryContract, AStaleEpochIsRefusedAcrossRestarts) {
  const absl::Duration lease = absl::Seconds(6);
  const auto first = registry_->JoinWorker("box", "h:1", {}, lease);
  const auto second = registry_->JoinWorker("box", "h:2", {"v"}, lease);
  ASSERT_OK_STATUS(first);
  ASSERT_OK_STATUS(second);
  EXPECT_GT(second->epoch, first->epoch);
  EXPECT_STATUS(registry_->HeartbeatWorker("box", first->epoch, {}, lease),
                kAborted, "stale");
  EXPECT_STATUS(registry_->LeaveWorker("box", first->epoch), kAborted, "stale");
  Reopen();
  EXPECT_EQ(registry_->snapshot()->workers.at("box").address, "h:2");
  ASSERT_OK_STATUS(
      registry_->HeartbeatWorker("box", second->epoch, {"v"}, lease));
  ASSERT_OK_STATUS(registry_->LeaveWorker("box", second->epoch));
  Reopen();
  const auto third = registry_->JoinWorker("box", "h:3", {}, lease);
  ASSERT_OK_STATUS(third);
  EXPECT_GT(third->epoch, second->epoch);
}

TEST_P(RegistryContract, ARestartFindsEverything) {
  ASSERT_OK_STATUS(Add("chat"));
  ASSERT_OK_STATUS(Add("coder", {"code"}));
  ASSERT_OK_STATUS(registry_->DrainExpert("coder", 0, ""));
  ASSERT_OK_STATUS(registry_->SetAlias("best", "chat", 0, ""));
  ExpertSpec upstream;
  upstream.name = "gpu-box";
  upstream.endpoint = {.url = "http://127.0.0.1:9000/v1",
                       .remote_model = "llama-70b",
                       .api_key_env = "KEY",
                       .insecure = true};
  upstream.categories = {"law", "tax"};
  upstream.samples = {{"may I \xC3\xA9?", "law"}, {"VAT", "tax"}};
  upstream.cost = 2.5;
  upstream.quality = 0.75;
  ASSERT_OK_STATUS(registry_->RegisterExpert(upstream, ""));
  const auto before = registry_->snapshot();
  Reopen();
  const auto after = registry_->snapshot();
  EXPECT_EQ(after->revision, before->revision);
  EXPECT_EQ(after->models, before->models);
  EXPECT_EQ(after->aliases, before->aliases);
  ASSERT_EQ(after->experts.size(), before->experts.size());
  for (const auto& [name, expert] : before->experts) {
    EXPECT_EQ(*after->experts.at(name), *expert) << name;
  }
}

TEST_P(RegistryContract, WatchersSeeEveryChangeInOrder) {
  std::vector<ChangeEvent> seen;
  auto handle = registry_->Watch(
      [&](const ChangeEvent& event, std::shared_ptr<const Snapshot> state) {
        EXPECT_GE(state->revision, event.revision);
        if (event.kind == ChangeEvent::Kind::kExpert) {
          EXPECT_EQ(state->experts.contains(event.name), !event.removed);
        }
        seen.push_back(event);
      });
  const uint64_t start = registry_->snapshot()->revision;
  ASSERT_OK_STATUS(Add("chat"));
  ASSERT_OK_STATUS(registry_->SetAlias("best", "chat", 0, ""));
  ASSERT_OK_STATUS(registry_->RemoveAlias("best", 0, ""));
  ASSERT_OK_STATUS(registry_->RemoveExpert("chat", 0, ""));
  ASSERT_OK_STATUS(registry_->JoinWorker("box", "h:1", {}, absl::Seconds(1)));
  fixture_->clock.Advance(absl::Seconds(2));
  registry_->ExpireLeases();
  ASSERT_EQ(seen.size(), 6u);
  for (size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(seen[i].revision, start + i + 1);
  }
  EXPECT_TRUE(seen[3].removed);
  EXPECT_EQ(seen[3].name, "chat");
  EXPECT_EQ(seen[5].kind, ChangeEvent::Kind::kWorker);
  EXPECT_TRUE(seen[5].removed);
  handle.reset();
  ASSERT_OK_STATUS(Add("late"));
  EXPECT_EQ(seen.size(), 6u) << "called after its handle was destroyed";
}

// Many threads add, drain and remove while others read and watch: every
// acknowledged change is in the end state and every reader sees whole states.
TEST_P(RegistryContract, ConcurrentUse) {
  constexpr int kWriters = 4;
  constexpr int kRounds = 25;
  ASSERT_OK_STATUS(Add("chat"));
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> last_event{0};
  auto handle = registry_->Watch(
      [&](const ChangeEvent& event, std::shared_ptr<const Snapshot>) {
        EXPECT_GT(event.revision, last_event.exchange(event.revision));
      });
  std::vector<std::thread> threads;
  for (int r = 0; r < 2; ++r) {
    threads.emplace_back([&] {
      uint64_t revision = 0;
      while (!stop) {
        const auto state = registry_->snapshot();
        EXPECT_GE(state->revision, revision);
        revision = state->revision;
        for (const auto& [name, expert] : state->experts) {
          EXPECT_EQ(name, expert->name);
        }
        auto extra = registry_->Watch([](const auto&, auto) {});
        std::this_thread::yield();
      }
    });
  }
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w) {
    writers.emplace_back([&, w] {
      for (int i = 0; i < kRounds; ++i) {
        const std::string name = fmt::format("w{}-{}", w, i);
        EXPECT_TRUE(Add(name, {"code"}).ok());
        if (i % 5 == 4) continue;  // These stay.
        EXPECT_TRUE(registry_->DrainExpert(name, 0, name + "d").ok());
        EXPECT_TRUE(registry_->RemoveExpert(name, 0, "").ok());
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(registry_->snapshot()->experts.size(),
            size_t{1 + kWriters * kRounds / 5});
  EXPECT_EQ(last_event, registry_->snapshot()->revision);
  handle.reset();
  Reopen();
  EXPECT_EQ(registry_->snapshot()->experts.size(),
            size_t{1 + kWriters * kRounds / 5});
}

}  // namespace conclave::registry

#endif  // CONCLAVE_TESTS_CONTRACT_REGISTRY_CONTRACT_H_
