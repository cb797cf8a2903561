// Service and client together, in-process and over TCP.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <optional>
#include <thread>

#include "base/rpc/server.h"
#include "conclave/v1/registry.grpc.pb.h"
#include "registry/client.h"
#include "registry/rocksdb_registry.h"
#include "registry/service.h"
#include "tests/contract/registry_testing.h"

namespace conclave::registry {
namespace {

absl::Time Soon() { return absl::Now() + absl::Seconds(20); }

// Waits until `done` holds; the time that took, or nothing after 10 s.
template <typename Predicate>
std::optional<absl::Duration> TimeUntil(const Predicate& done) {
  const absl::Time start = absl::Now();
  while (!done()) {
    if (absl::Now() - start > absl::Seconds(10)) return std::nullopt;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return absl::Now() - start;
}

// Stands in for a weight store: "imports" any path but a bad one.
class FakeModelAdmin final : public ModelAdmin {
 public:
  absl::StatusOr<ModelRecord> Import(const std::string& path,
                                     const std::string& name,
                                     const ImportProgress& progress) override {
    if (path == "bad") return InvalidArgument("not a model at offset 4");
    if (path == "long") {
      std::string text;
      while (text.size() < 20'000) text += "\u20ac";
      return InvalidArgument("not a model: {}", text);
    }
    ++imports;
    if (path == "endless") {
      for (;;) {
        const absl::Status status = progress(1, 100);
        if (!status.ok()) return status;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
    for (int64_t done = 0; done <= 100; done += 50) {
      RETURN_IF_ERROR(progress(done, 100));
    }
    return SomeModel(name);
  }
  absl::Status Remove(const std::string& name) override {
    removed.push_back(name);
    return remove_answer;
  }
  std::atomic<int> imports = 0;
  std::vector<std::string> removed;
  absl::Status remove_answer;
};

class RegistryRpcTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "regrpc-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
    StartServer(0);
    ASSERT_OK_STATUS(registry_->PutModel(SomeModel("small")));
  }
  void TearDown() override {
    StopServer();
    std::filesystem::remove_all(path_);
  }

  void StartServer(int port) {
    registry_ = OpenRocksDbRegistry({.path = path_}).value();
    service_ = MakeRegistryService(registry_.get(), &models_,
                                   {.worker_lease = absl::Milliseconds(600),
                                    .expiry_interval = absl::Milliseconds(50)});
    auto server =
        rpc::Server::Start(fmt::format("127.0.0.1:{}", port), {service_.get()});
    ASSERT_OK_STATUS(server);
    server_ = std::move(server).value();
    port_ = server_->port();
  }
  void StopServer() {
    if (server_ != nullptr) server_->Shutdown(absl::Now());
    server_.reset();
    service_.reset();
    registry_.reset();
  }
  std::shared_ptr<grpc::Channel> Channel() {
    return GetParam() ? rpc::Connect(fmt::format("127.0.0.1:{}", port_))
                      : server_->InProcessChannel();
  }
  std::unique_ptr<RegistryClient> Client() {
    auto client = RegistryClient::Create(Channel());
    EXPECT_TRUE(client->WaitUntilReady(Soon()).ok());
    return client;
  }

  std::string path_;
  FakeModelAdmin models_;
  std::unique_ptr<Registry> registry_;
  std::unique_ptr<grpc::Service> service_;
  std::unique_ptr<rpc::Server> server_;
  int port_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Channels, RegistryRpcTest, testing::Bool(),
                         [](const auto& param_info) {
                           return param_info.param ? "Tcp" : "InProcess";
                         });

// Each list is of one snapshot, which a change meanwhile does not take away
// (under AddressSanitizer: is not read after its end).
TEST_P(RegistryRpcTest, ListsWhileEverythingChanges) {
  std::atomic<bool> stop = false;
  std::thread changer([&] {
    while (!stop) {
      for (int i = 0; i < 8; ++i) {
        const std::string name = "m" + std::to_string(i);
        EXPECT_TRUE(registry_->PutModel(SomeModel(name)).ok());
      }
    }
  });
  const auto client = Client();
  for (int i = 0; i < 300; ++i) {
    const auto models = client->ListModels(Soon());
    EXPECT_TRUE(models.ok() && !models->empty());
  }
  stop = true;
  changer.join();
}

TEST_P(RegistryRpcTest, AChangeIsVisibleElsewhereWithin200Ms) {
  const auto writer = Client();
  const auto reader = Client();
  EXPECT_TRUE(reader->snapshot()->models.contains("small"));
  absl::Duration worst = absl::ZeroDuration();
  for (int i = 0; i < 50; ++i) {
    const std::string name = fmt::format("e{}", i);
    const auto added = writer->RegisterExpert(
        OnModel(name, "small", {"general"}), name, Soon());
    ASSERT_OK_STATUS(added);
    const auto visible =
        TimeUntil([&] { return reader->snapshot()->experts.contains(name); });
    ASSERT_TRUE(visible.has_value());
    worst = std::max(worst, *visible);
    EXPECT_EQ(*reader->snapshot()->experts.at(name), *added);
  }
  EXPECT_LT(worst, absl::Milliseconds(200));
  printf("slowest of 50 changes visible after %.2f ms\n",
         absl::ToDoubleMilliseconds(worst));
}

TEST_P(RegistryRpcTest, StatesAreTheSameEverywhere) {
  const auto client = Client();
  const auto stub = v1::Registry::NewStub(Channel());
  const auto state_by_call = [&] {
    grpc::ClientContext context;
    v1::GetRequest request;
    request.set_name("chat");
    v1::Expert expert;
    EXPECT_TRUE(stub->GetExpert(&context, request, &expert).ok());
    return expert.state();
  };
  const auto mirrored = [&](ExpertState state) {
    const auto after = TimeUntil([&] {
      const auto snapshot = client->snapshot();
      const auto found = snapshot->experts.find("chat");
      return found != snapshot->experts.end() && found->second->state == state;
    });
    return after.has_value() && *after < absl::Milliseconds(200);
  };
  const auto listed = [&] { return client->ListExperts(Soon())->at(0).state; };
  const auto added =
      client->RegisterExpert(OnModel("chat", "small", {"general"}), "", Soon());
  ASSERT_OK_STATUS(added);
  EXPECT_EQ(added->state, ExpertState::kJoining);
  EXPECT_TRUE(mirrored(ExpertState::kJoining));
  EXPECT_EQ(state_by_call(), v1::JOINING);
  EXPECT_EQ(listed(), ExpertState::kJoining);
  // Of 600 ms, and nobody heartbeats.
  ASSERT_OK_STATUS(client->JoinWorker("box", "h:1", {"v-small"}, Soon()));
  EXPECT_TRUE(mirrored(ExpertState::kServing));
  EXPECT_EQ(state_by_call(), v1::SERVING);
  EXPECT_EQ(listed(), ExpertState::kServing);
  ASSERT_TRUE(TimeUntil([&] { return state_by_call() == v1::JOINING; }));
  EXPECT_TRUE(mirrored(ExpertState::kJoining));
  ASSERT_OK_STATUS(client->DrainExpert("chat", "", Soon()));
  EXPECT_TRUE(mirrored(ExpertState::kDraining));
  EXPECT_EQ(state_by_call(), v1::DRAINING);
}

TEST_P(RegistryRpcTest, CallsAndErrorsCrossTheWire) {
  const auto client = Client();
  const ExpertSpec spec = OnModel("chat", "small", {"general"});
  const auto added = client->RegisterExpert(spec, "k", Soon());
  ASSERT_OK_STATUS(added);
  EXPECT_EQ(*added, *registry_->snapshot()->experts.at("chat"));
  EXPECT_EQ(*client->RegisterExpert(spec, "k", Soon()), *added);
  EXPECT_STATUS(client->RegisterExpert(spec, "k2", Soon()), kAlreadyExists,
                "remove it first");
  ASSERT_OK_STATUS(
      client->RegisterExpert(OnModel("coder", "small", {"code"}), "", Soon()));
  EXPECT_STATUS(client->DrainExpert("chat", "", Soon()), kFailedPrecondition,
                "general");
  ASSERT_OK_STATUS(client->SetAlias("best", "chat", 0, "", Soon()));
  ASSERT_OK_STATUS(client->RemoveAlias("best", 0, "", Soon()));
  const auto drained = client->DrainExpert("coder", "", Soon());
  ASSERT_OK_STATUS(drained);
  EXPECT_EQ(drained->state, ExpertState::kDraining);
  ASSERT_OK_STATUS(client->RemoveExpert("coder", 0, "", Soon()));
  const auto experts = client->ListExperts(Soon());
  ASSERT_OK_STATUS(experts);
  ASSERT_EQ(experts->size(), 1u);
  EXPECT_EQ((*experts)[0], *added);
  const auto gone =
      TimeUntil([&] { return !client->snapshot()->experts.contains("coder"); });
  EXPECT_TRUE(gone.has_value());
}

TEST_P(RegistryRpcTest, ANewExpertIsNotRemovedInADrainedOnesPlace) {
  const auto client = Client();
  ASSERT_OK_STATUS(client->RegisterExpert(OnModel("chat", "small", {"general"}),
                                          "", Soon()));
  const auto add = [&] {
    ASSERT_OK_STATUS(client->RegisterExpert(OnModel("coder", "small", {"code"}),
                                            "", Soon()));
  };
  const auto is_there = [&] {
    return registry_->snapshot()->experts.contains("coder");
  };
  add();
  const auto first = client->DrainExpert("coder", "", Soon());
  ASSERT_OK_STATUS(first);
  ASSERT_OK_STATUS(RemoveDrained(*client, *first, Soon()));
  EXPECT_FALSE(is_there());
  add();
  // The answer was lost, and the call is made again.
  ASSERT_OK_STATUS(RemoveDrained(*client, *first, Soon()));
  EXPECT_TRUE(is_there());
  // Somebody else removed it, and added it anew.
  const auto second = client->DrainExpert("coder", "", Soon());
  ASSERT_OK_STATUS(second);
  ASSERT_OK_STATUS(client->RemoveExpert("coder", 0, "", Soon()));
  add();
  EXPECT_STATUS(RemoveDrained(*client, *second, Soon()), kAborted, "version");
  EXPECT_TRUE(is_there());
}

TEST_P(RegistryRpcTest, ModelsAreImportedAndRemoved) {
  const auto client = Client();
  int64_t reported = 0;
  const auto model = client->ImportModel(
      "file.gguf", "big", "", [&](int64_t done, int64_t) { reported = done; },
      Soon());
  ASSERT_OK_STATUS(model);
  EXPECT_EQ(*model, SomeModel("big"));
  EXPECT_EQ(reported, SomeModel("big").bytes);
  EXPECT_STATUS(client->ImportModel("bad", "other", "", nullptr, Soon()),
                kInvalidArgument, "offset 4");
  // Longer than a header may be, were it to cross whole.
  EXPECT_STATUS(client->ImportModel("long", "other", "", nullptr, Soon()),
                kInvalidArgument, "not a model: \u20ac");
  ASSERT_EQ(client->ListModels(Soon())->size(), 2u);
  ASSERT_OK_STATUS(
      client->RegisterExpert(OnModel("chat", "big", {"general"}), "", Soon()));
  EXPECT_STATUS(client->RemoveModel("big", "", "", Soon()), kFailedPrecondition,
                "chat");
  EXPECT_TRUE(models_.removed.empty());
  ASSERT_OK_STATUS(client->RemoveExpert("chat", 0, "", Soon()));
  ASSERT_OK_STATUS(client->RemoveModel("big", "", "", Soon()));
  EXPECT_EQ(models_.removed, std::vector<std::string>{"big"});
  models_.remove_answer = Unavailable("disk");
  EXPECT_STATUS(client->RemoveModel("small", "", "", Soon()), kUnavailable,
                "disk");
  EXPECT_TRUE(registry_->snapshot()->models.contains("small"));
}

TEST_P(RegistryRpcTest, ACallMadeAgainIsAnsweredAndNotDoneAgain) {
  const auto client = Client();
  const auto import = [&](const std::string& path, const std::string& key) {
    return client->ImportModel(path, "big", key, nullptr, Soon());
  };
  // Together, as a caller does that lost the first answer.
  std::thread again(
      [&] { EXPECT_EQ(*import("file.gguf", "k"), SomeModel("big")); });
  EXPECT_EQ(*import("file.gguf", "k"), SomeModel("big"));
  again.join();
  EXPECT_EQ(models_.imports, 1);
  EXPECT_STATUS(import("other.gguf", "k"), kInvalidArgument, "another request");
  EXPECT_STATUS(import("bad", "k2"), kInvalidArgument, "offset 4");
  ASSERT_OK_STATUS(import("file.gguf", "k2"));  // A failure is not remembered.
  EXPECT_EQ(models_.imports, 2);

  EXPECT_STATUS(client->RemoveModel("big", "v-old", "", Soon()), kAborted,
                "v-big");
  EXPECT_TRUE(models_.removed.empty());
  ASSERT_OK_STATUS(client->RemoveModel("big", "v-big", "rm", Soon()));
  EXPECT_EQ(models_.removed.size(), 1u);
  ASSERT_OK_STATUS(
      client->ImportModel("file.gguf", "big", "", nullptr, Soon()));
  ASSERT_OK_STATUS(client->RemoveModel("big", "v-big", "rm", Soon()));
  EXPECT_EQ(models_.removed.size(), 1u)
      << "a removal made again took the next model's weights";
  EXPECT_TRUE(registry_->snapshot()->models.contains("big"));

  ASSERT_OK_STATUS(
      client->RegisterExpert(OnModel("chat", "big", {"general"}), "", Soon()));
  const auto alias = client->SetAlias("best", "chat", 0, "set", Soon());
  ASSERT_OK_STATUS(alias);
  EXPECT_EQ(*alias, registry_->snapshot()->aliases.at("best"));
  EXPECT_EQ(*client->SetAlias("best", "chat", 0, "set", Soon()), *alias);
  EXPECT_STATUS(client->RemoveAlias("best", alias->version + 1, "", Soon()),
                kAborted, "version");
  EXPECT_TRUE(TimeUntil([&] {
                const auto state = client->snapshot();
                return state->aliases.contains("best") &&
                       state->aliases.at("best") == *alias;
              }).has_value());
  ASSERT_OK_STATUS(client->RemoveAlias("best", alias->version, "rm-a", Soon()));
  ASSERT_OK_STATUS(client->RemoveAlias("best", alias->version, "rm-a", Soon()));
}

// The one in progress, and the one that waits for its turn.
TEST_P(RegistryRpcTest, AnAbandonedImportStops) {
  const auto client = Client();
  std::thread waiting([&] {
    while (models_.imports == 0) std::this_thread::yield();
    EXPECT_STATUS(client->ImportModel("file.gguf", "second", "", nullptr,
                                      absl::Now() + absl::Milliseconds(200)),
                  kDeadlineExceeded, "");
  });
  EXPECT_STATUS(client->ImportModel("endless", "first", "", nullptr,
                                    absl::Now() + absl::Milliseconds(600)),
                kDeadlineExceeded, "");
  waiting.join();
  // The next one gets its turn: neither is at it any more.
  const absl::Time start = absl::Now();
  ASSERT_OK_STATUS(
      client->ImportModel("file.gguf", "third", "", nullptr, Soon()));
  EXPECT_LT(absl::Now() - start, absl::Seconds(2));
  EXPECT_EQ(models_.imports, 2);
  EXPECT_FALSE(registry_->snapshot()->models.contains("first"));
  EXPECT_FALSE(registry_->snapshot()->models.contains("second"));
  EXPECT_TRUE(registry_->snapshot()->models.contains("third"));
}

TEST_P(RegistryRpcTest, AnImportDoesNotHoldUpAShutdown) {
  const auto client = Client();
  std::thread importing([&] {
    EXPECT_FALSE(client->ImportModel("endless", "x", "", nullptr, Soon()).ok());
  });
  while (models_.imports == 0) std::this_thread::yield();
  const absl::Time start = absl::Now();
  server_->Shutdown(start + absl::Milliseconds(100));
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));
  importing.join();
}

TEST_P(RegistryRpcTest, WorkersComeAndGo) {
  const auto client = Client();
  const auto joined = client->JoinWorker("box", "h:1", {"v"}, Soon());
  ASSERT_OK_STATUS(joined);
  for (int i = 0; i < 8; ++i) {  // Longer than the lease.
    std::this_thread::sleep_for(std::chrono::milliseconds(120));
    ASSERT_OK_STATUS(
        client->HeartbeatWorker("box", joined->epoch, {"v"}, Soon()));
  }
  EXPECT_TRUE(client->snapshot()->workers.contains("box"));
  EXPECT_STATUS(client->HeartbeatWorker("box", joined->epoch - 1, {}, Soon()),
                kAborted, "stale");
  const auto gone =
      TimeUntil([&] { return client->snapshot()->workers.empty(); });
  ASSERT_TRUE(gone.has_value());
  EXPECT_LT(*gone, absl::Seconds(2));
  EXPECT_STATUS(client->HeartbeatWorker("box", joined->epoch, {}, Soon()),
                kNotFound, "join again");
  const auto again = client->JoinWorker("box", "h:2", {}, Soon());
  ASSERT_OK_STATUS(again);
  EXPECT_GT(again->epoch, joined->epoch);
  ASSERT_OK_STATUS(client->LeaveWorker("box", again->epoch, Soon()));
}

TEST_P(RegistryRpcTest, CallbacksGetEverySnapshotInOrder) {
  std::mutex mutex;
  std::vector<uint64_t> revisions;
  const auto client = Client();  // goes first: it calls back until then
  client->OnChange([&](std::shared_ptr<const Snapshot> state) {
    std::lock_guard lock(mutex);
    revisions.push_back(state->revision);
  });
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK_STATUS(client->RegisterExpert(
        OnModel(fmt::format("e{}", i), "small", {"general"}), "", Soon()));
  }
  ASSERT_TRUE(TimeUntil([&] {
                return client->snapshot()->experts.size() == 20;
              }).has_value());
  std::lock_guard lock(mutex);
  EXPECT_TRUE(std::is_sorted(revisions.begin(), revisions.end()));
}

// Under ThreadSanitizer every byte that libgrpc wrote is looked up in the
// suppressions; a megabyte takes minutes.
#ifdef __SANITIZE_THREAD__
constexpr bool kSlowBytes = true;
#else
constexpr bool kSlowBytes = false;
#endif

// More than one message could carry: 24 experts of 1 MB each.
TEST_P(RegistryRpcTest, ALargeRegistryArrivesWhole) {
  if (kSlowBytes) GTEST_SKIP() << "too slow under ThreadSanitizer";
  ExpertSpec spec = OnModel("", "small", {"general"});
  spec.samples.assign(250, {std::string(4000, 'x'), ""});
  for (int i = 0; i < 24; ++i) {
    spec.name = fmt::format("e{}", i);
    ASSERT_OK_STATUS(registry_->RegisterExpert(spec, ""));
  }
  const auto client = Client();
  EXPECT_EQ(client->snapshot()->experts.size(), 24u);
  const auto listed = client->ListExperts(Soon());
  ASSERT_OK_STATUS(listed);
  ASSERT_EQ(listed->size(), 24u);
  EXPECT_EQ((*listed)[7].samples.size(), 250u);
  const auto stub = v1::Registry::NewStub(Channel());
  grpc::ClientContext context;
  v1::ListExpertsResponse response;
  ASSERT_TRUE(stub->ListExperts(&context, v1::ListRequest(), &response).ok());
  EXPECT_EQ(response.experts_size(), 24);
}

TEST_P(RegistryRpcTest, CategoriesCountExpertsAndSamples) {
  ExpertSpec spec = OnModel("both", "small", {"law", "tax"});
  spec.samples = {{"a", "law"}, {"b", "tax"}, {"c", ""}};
  ASSERT_OK_STATUS(registry_->RegisterExpert(spec, ""));
  const auto stub = v1::Registry::NewStub(Channel());
  grpc::ClientContext context;
  v1::ListCategoriesResponse response;
  ASSERT_TRUE(
      stub->ListCategories(&context, v1::ListRequest(), &response).ok());
  ASSERT_EQ(response.categories_size(), 2);
  EXPECT_EQ(response.categories(0).name(), "law");
  EXPECT_EQ(response.categories(0).samples(), 2);
  EXPECT_EQ(response.categories(1).samples(), 1);
  grpc::ClientContext other;
  v1::GetRequest get;
  get.set_name("bot");
  v1::Expert expert;
  const grpc::Status missing = stub->GetExpert(&other, get, &expert);
  EXPECT_EQ(missing.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(missing.error_message(), testing::HasSubstr("both"));
}

TEST_P(RegistryRpcTest, AWatcherThatDoesNotReadIsSentAway) {
  if (kSlowBytes) GTEST_SKIP() << "too slow under ThreadSanitizer";
  const auto stub = v1::Registry::NewStub(Channel());
  grpc::ClientContext context;
  const auto reader = stub->Watch(&context, v1::WatchRequest());
  ExpertSpec spec = OnModel("e", "small", {"general"});
  spec.samples.assign(60, {std::string(8000, 'x'), ""});
  // Each round is two changes, half a megabyte together; the backlog is 1024.
  for (int i = 0; i < 700; ++i) {
    ASSERT_OK_STATUS(registry_->RegisterExpert(spec, ""));
    ASSERT_OK_STATUS(registry_->RemoveExpert("e", 0, ""));
  }
  v1::Change change;
  int read = 0;
  while (reader->Read(&change)) ++read;
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED)
      << status.error_message();
  EXPECT_LT(read, 1400);
}

TEST_P(RegistryRpcTest, AWatcherOfAForgottenRevisionIsTold) {
  const auto stub = v1::Registry::NewStub(Channel());
  const auto watch = [&](uint64_t revision) {
    grpc::ClientContext context;
    v1::WatchRequest request;
    request.set_after_revision(revision);
    const auto reader = stub->Watch(&context, request);
    v1::Change change;
    if (reader->Read(&change)) {
      EXPECT_TRUE(change.caught_up());
      context.TryCancel();
    }
    return reader->Finish().error_code();
  };
  EXPECT_EQ(watch(registry_->snapshot()->revision),
            grpc::StatusCode::CANCELLED);
  EXPECT_EQ(watch(999), grpc::StatusCode::OUT_OF_RANGE);
}

TEST_P(RegistryRpcTest, TheMirrorSurvivesARestart) {
  if (!GetParam()) GTEST_SKIP() << "an in-process channel ends with its server";
  const auto client = Client();
  ASSERT_OK_STATUS(client->RegisterExpert(OnModel("chat", "small", {"general"}),
                                          "", Soon()));
  ASSERT_OK_STATUS(
      client->RegisterExpert(OnModel("old", "small", {"code"}), "", Soon()));
  ASSERT_TRUE(TimeUntil([&] {
                return client->snapshot()->experts.size() == 2;
              }).has_value());
  const int port = port_;
  StopServer();
  EXPECT_EQ(client->snapshot()->experts.size(), 2u) << "the last state stays";
  EXPECT_STATUS(client->RegisterExpert(OnModel("x", "small", {"code"}), "",
                                       absl::Now() + absl::Seconds(1)),
                kUnavailable, "");
  {  // What changes meanwhile, a removal included, is seen afterwards.
    auto registry = OpenRocksDbRegistry({.path = path_}).value();
    ASSERT_OK_STATUS(registry->RemoveExpert("old", 0, ""));
    ASSERT_OK_STATUS(
        registry->RegisterExpert(OnModel("new", "small", {"code"}), ""));
  }
  StartServer(port);
  EXPECT_TRUE(TimeUntil([&] {
                const auto state = client->snapshot();
                return state->experts.contains("new") &&
                       !state->experts.contains("old");
              }).has_value());
}

TEST_P(RegistryRpcTest, WatchersDoNotHoldUpAShutdown) {
  const auto client = Client();
  const absl::Time start = absl::Now();
  server_->Shutdown(start + absl::Seconds(10));
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));
}

TEST(RegistryClientTest, NobodyThereIsADeadline) {
  const auto client = RegistryClient::Create(rpc::Connect("127.0.0.1:1"));
  EXPECT_STATUS(client->WaitUntilReady(absl::Now() + absl::Milliseconds(300)),
                kDeadlineExceeded, "did not answer");
  EXPECT_EQ(client->snapshot()->revision, 0u);
}

}  // namespace
}  // namespace conclave::registry
