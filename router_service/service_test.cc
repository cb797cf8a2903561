// Service, client and core together over an in-process channel; what answers
// is fake, the journal is real.
#include "router_service/service.h"

#include <absl/time/clock.h>
#include <gmock/gmock.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <set>

#include "base/rpc/server.h"
#include "expert_workers/upstream/testing/test_event.h"
#include "router_service/client.h"
#include "router_service/dispatch/fake_target.h"

namespace conclave::router {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

absl::Time Soon() { return absl::Now() + absl::Seconds(20); }

struct Result {
  std::mutex mutex;
  std::vector<v1::GenerateEvent> events;
  absl::Status status;
  TestEvent first_event;
  TestEvent done;

  StreamCallbacks callbacks() {
    StreamCallbacks out;
    out.on_event = [this](const v1::GenerateEvent& event) {
      {
        std::lock_guard lock(mutex);
        events.push_back(event);
      }
      first_event.Notify();
    };
    out.on_done = [this](absl::Status s) {
      status = std::move(s);
      done.Notify();
    };
    return out;
  }
  size_t size() {
    std::lock_guard lock(mutex);
    return events.size();
  }
};

// Lists models, says that it holds none, and notes what it is to unload.
class UnloadedWorker final : public workers::WorkerClient {
 public:
  UnloadedWorker(std::mutex* mutex, std::set<std::string>* unloaded,
                 std::string address)
      : mutex_(mutex), unloaded_(unloaded), address_(std::move(address)) {}
  std::unique_ptr<StreamCall> Generate(const v1::WorkerGenerateRequest&,
                                       absl::Time, StreamCallbacks) override {
    return nullptr;
  }
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest&,
                                          absl::Time) override {
    return Unimplemented("not used");
  }
  absl::StatusOr<v1::LoadResponse> Load(const v1::LoadRequest&,
                                        absl::Time) override {
    return Unimplemented("not used");
  }
  absl::StatusOr<v1::UnloadResponse> Unload(const v1::UnloadRequest& request,
                                            absl::Time) override {
    // This one hangs, and holds up nobody.
    if (address_ == "a:1") absl::SleepFor(absl::Seconds(1));
    std::lock_guard lock(*mutex_);
    unloaded_->insert(address_ + " " + request.model());
    return v1::UnloadResponse();
  }
  absl::StatusOr<v1::WorkerStats> Stats(absl::Time) override {
    return v1::WorkerStats();
  }

 private:
  std::mutex* const mutex_;
  std::set<std::string>* const unloaded_;
  const std::string address_;
};

class RouterServiceTest : public ::testing::Test {
 protected:
  RouterServiceTest() : registry_(MakeSnapshot(1, "")) {
    std::string name =
        (std::filesystem::temp_directory_path() / "router_XXXXXX").string();
    path_ = mkdtemp(name.data());
    auto journal = Journal::Open(path_, {}, &Clock::Real());
    EXPECT_TRUE(journal.ok()) << journal.status();
    journal_ = *std::move(journal);

    RouterCoreDependencies dependencies;
    dependencies.decide = [this](const v1::GenerateRequest& request,
                                 const registry::Snapshot& snapshot) {
      return Decide(request, snapshot);
    };
    dependencies.registry = &registry_;
    dependencies.resolver = &resolver_;
    dependencies.journal = journal_.get();
    dependencies.remove_drained = [this](const registry::ExpertSpec& expert) {
      std::lock_guard lock(mutex_);
      removed_.push_back(fmt::format("{} {}", expert.name, expert.version));
      return absl::OkStatus();
    };
    RouterCoreOptions options;
    options.housekeeping = absl::Milliseconds(20);
    core_ = std::make_unique<RouterCore>(dependencies, options);
    service_ = std::make_unique<RouterService>(core_.get());
    auto server = rpc::Server::Start("", {service_.get()});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    client_ = RouterClient::Create(server_->InProcessChannel());
  }
  ~RouterServiceTest() override {
    client_.reset();
    server_->Shutdown(absl::Now() + absl::Seconds(1));
    server_.reset();
    service_.reset();
    core_.reset();
    journal_.reset();
    std::filesystem::remove_all(path_);
  }

  static registry::Snapshot MakeSnapshot(uint64_t revision,
                                         const std::string& draining) {
    registry::Snapshot snapshot;
    snapshot.revision = revision;
    for (const char* name : {"chat", "coder"}) {
      auto expert = std::make_shared<registry::ExpertSpec>();
      expert->name = name;
      expert->version = 7;
      expert->model = name;
      expert->categories = {"general"};
      if (name == draining) expert->state = registry::ExpertState::kDraining;
      snapshot.experts[name] = expert;
    }
    snapshot.models["lonely"].name = "lonely";
    snapshot.models["minilm"].architecture = "bert";
    return snapshot;
  }

  // "code" in the text goes to the coder, with chat behind it.
  static absl::StatusOr<Routing> Decide(const v1::GenerateRequest& request,
                                        const registry::Snapshot& snapshot) {
    Routing routing;
    if (!request.model().empty() && request.model() != "auto") {
      if (!snapshot.experts.contains(request.model())) {
        return NotFound("no expert is called {}", request.model());
      }
      routing.candidates = {request.model()};
    } else if (request.text().find("code") != std::string::npos) {
      routing.candidates = {"coder", "chat"};
    } else {
      routing.candidates = {"chat"};
    }
    routing.decision.set_request_id(request.request_id());
    routing.decision.set_expert(routing.candidates[0]);
    routing.decision.set_category("general");
    return routing;
  }

  static v1::GenerateRequest Text(const std::string& text,
                                  const std::string& id = "") {
    v1::GenerateRequest request;
    request.set_text(text);
    request.set_request_id(id);
    return request;
  }

  void Run(const v1::GenerateRequest& request, Result& result) {
    const auto call = client_->Generate(request, Soon(), result.callbacks());
    ASSERT_TRUE(result.done.Wait());
  }

  std::vector<std::string> removed() {
    std::lock_guard lock(mutex_);
    return removed_;
  }

  std::string path_;
  std::mutex mutex_;
  std::vector<std::string> removed_;
  registry::FixedSnapshot registry_;
  FakeResolver resolver_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<RouterCore> core_;
  std::unique_ptr<RouterService> service_;
  std::unique_ptr<rpc::Server> server_;
  std::unique_ptr<RouterClient> client_;
};

TEST_F(RouterServiceTest, GeneratesExplainsAndTakesFeedback) {
  resolver_.Add("coder", {.status = Unavailable("down")});
  resolver_.Add("chat", {.words = {"Hel", "lo"}});
  Result result;
  Run(Text("write code", "my-id:1"), result);
  ASSERT_TRUE(result.status.ok()) << result.status;
  ASSERT_THAT(result.events, SizeIs(5));
  EXPECT_EQ(result.events[0].started().expert(), "chat");
  EXPECT_EQ(result.events[0].started().request_id(), "my-id:1");
  EXPECT_EQ(result.events[0].started().decision().expert(), "coder");
  EXPECT_EQ(result.events[2].delta().text(), "lo");
  EXPECT_EQ(result.events[4].usage().completion_tokens(), 2);

  v1::FeedbackRequest feedback;
  feedback.set_request_id("my-id:1");
  feedback.set_score(0.5);
  ASSERT_TRUE(client_->Feedback(feedback, Soon()).ok());
  v1::ExplainRequest explain;
  explain.set_request_id("my-id:1");
  const auto explained = client_->Explain(explain, Soon());
  ASSERT_TRUE(explained.ok()) << explained.status();
  EXPECT_EQ(explained->decision().expert(), "coder");
  EXPECT_EQ(explained->outcome().expert(), "chat");
  ASSERT_EQ(explained->outcome().attempts_size(), 1);
  EXPECT_EQ(explained->outcome().attempts(0), "coder: UNAVAILABLE down");
  ASSERT_EQ(explained->feedback_size(), 1);
  EXPECT_EQ(journal_->Feedback("general", "chat", 7).count, 1);
}

TEST_F(RouterServiceTest, TheTenantReachesWhoAnswers) {
  const auto target = resolver_.Add("chat", {.words = {"x"}});
  v1::GenerateRequest request = Text("hello");
  request.set_tenant("acme");
  Result result;
  Run(request, result);
  ASSERT_TRUE(result.status.ok()) << result.status;
  ASSERT_THAT(target->requests(), SizeIs(1));
  EXPECT_EQ(target->requests()[0].tenant(), "acme");
}

TEST_F(RouterServiceTest, RouteDecidesAndIsJournalled) {
  v1::RouteRequest request;
  request.set_text("some code");
  const auto first = client_->Route(request, Soon());
  const auto second = client_->Route(request, Soon());
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(first->expert(), "coder");
  EXPECT_TRUE(CheckRequestId(first->request_id()).ok());
  EXPECT_NE(first->request_id(), second->request_id());
  v1::ExplainRequest explain;
  explain.set_request_id(first->request_id());
  const auto explained = client_->Explain(explain, Soon());
  ASSERT_TRUE(explained.ok()) << explained.status();
  EXPECT_EQ(explained->decision().expert(), "coder");
  EXPECT_FALSE(explained->has_outcome());
}

TEST_F(RouterServiceTest, AModelWithoutExpertAnswersByItsName) {
  resolver_.Add("lonely", {.words = {"x"}});
  v1::GenerateRequest request = Text("hello");
  request.set_model("lonely");
  Result result;
  Run(request, result);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.events[0].started().expert(), "lonely");
  EXPECT_EQ(result.events[0].started().decision().tier(), "bypass");
  request.set_model("lonley");
  Result unknown;
  Run(request, unknown);
  EXPECT_EQ(unknown.status.code(), absl::StatusCode::kNotFound);
}

TEST_F(RouterServiceTest, RefusesBadRequests) {
  for (const std::string& id :
       {std::string("a b"), std::string(129, 'x'), std::string("a/b")}) {
    Result result;
    Run(Text("hello", id), result);
    EXPECT_EQ(result.status.code(), absl::StatusCode::kInvalidArgument);
  }
  Result tenant;
  v1::GenerateRequest of_tenant = Text("hello");
  of_tenant.set_tenant("a/b");
  Run(of_tenant, tenant);
  EXPECT_EQ(tenant.status.code(), absl::StatusCode::kInvalidArgument);
  Result empty;
  Run({}, empty);
  EXPECT_EQ(empty.status.code(), absl::StatusCode::kInvalidArgument);
  v1::FeedbackRequest feedback;
  feedback.set_request_id("unknown");
  EXPECT_EQ(client_->Feedback(feedback, Soon()).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(RouterServiceTest, AFailureAfterTheFirstTokenEndsTheStream) {
  resolver_.Add("chat", {.words = {"half"}, .status = DataLoss("unit 7")});
  Result result;
  Run(Text("hello"), result);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(result.events, SizeIs(2));
}

TEST_F(RouterServiceTest, CancelReachesTheTargetAtOnce) {
  resolver_.Add("chat", {.words = {"x"}, .hang = true});
  Result result;
  auto call =
      client_->Generate(Text("hello", "c1"), Soon(), result.callbacks());
  ASSERT_TRUE(result.first_event.Wait());
  EXPECT_EQ(core_->InFlightCounts()["chat"], 1);
  const absl::Time start = absl::Now();
  call->Cancel();
  while (!core_->InFlightCounts().empty() &&
         absl::Now() - start < absl::Seconds(10)) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  // 100 ms is the promise; a busy test machine gets some more.
  EXPECT_LT(absl::Now() - start, absl::Milliseconds(500));
  ASSERT_TRUE(result.done.Wait());
  EXPECT_EQ(result.status.code(), absl::StatusCode::kCancelled);
  const auto explained = journal_->Explain("c1");
  ASSERT_TRUE(explained.ok());
  EXPECT_EQ(explained->outcome().status(), "CANCELLED");
}

TEST_F(RouterServiceTest, APausedReaderLosesNothing) {
  resolver_.Add("chat", {.words = std::vector<std::string>(
                             3000, std::string(1000, 'x'))});
  Result result;
  const auto call =
      client_->Generate(Text("hello"), Soon(), result.callbacks());
  call->Pause();
  absl::SleepFor(absl::Milliseconds(50));
  const size_t before = result.size();
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_EQ(result.size(), before);
  call->Resume();
  ASSERT_TRUE(result.done.Wait());
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.size(), 3003u);
}

TEST_F(RouterServiceTest, AReaderThatNeverComesBackIsCutOff) {
  // This target cannot pause: 24 MiB do not fit into the queue.
  resolver_.Add(
      "chat", {.words = std::vector<std::string>(24, std::string(1 << 20, 'x')),
               .deaf = true});
  Result result;
  const auto call =
      client_->Generate(Text("hello", "slow"), Soon(), result.callbacks());
  call->Pause();
  const absl::Time start = absl::Now();
  bool ended = false;
  while (!ended && absl::Now() - start < absl::Seconds(10)) {
    absl::SleepFor(absl::Milliseconds(5));
    const auto explained = journal_->Explain("slow");
    ended = explained.ok() && explained->has_outcome();
  }
  EXPECT_TRUE(ended);
  call->Resume();
  ASSERT_TRUE(result.done.Wait());
  EXPECT_EQ(result.status.code(), absl::StatusCode::kResourceExhausted)
      << result.status;
}

// Wherever the weights may be: a look at who has them is a second old.
TEST_F(RouterServiceTest, DrainedWeightsLeaveEveryWorkerThatListsThem) {
  std::mutex mutex;
  std::set<std::string> unloaded;
  WorkerDirectory directory([&](const std::string& address) {
    return std::make_shared<UnloadedWorker>(&mutex, &unloaded, address);
  });
  registry::Snapshot snapshot = MakeSnapshot(2, "coder");
  snapshot.models["coder"].version = "v-coder";
  const auto joins = [&](const std::string& name,
                         std::vector<std::string> models) {
    snapshot.workers[name].name = name;
    snapshot.workers[name].address = name + ":1";
    snapshot.workers[name].models = std::move(models);
  };
  joins("a", {"v-coder"});
  joins("b", {"v-chat", "v-coder"});
  joins("c", {"v-chat"});
  joins("d", {"v-coder"});
  registry::FixedSnapshot source(std::move(snapshot));
  RouterCoreDependencies dependencies;
  dependencies.registry = &source;
  dependencies.resolver = &resolver_;
  dependencies.journal = journal_.get();
  dependencies.workers = &directory;
  dependencies.remove_drained = [&](const registry::ExpertSpec& expert) {
    EXPECT_EQ(expert.name, "coder");
    source.Set(MakeSnapshot(3, ""));
    return absl::OkStatus();
  };
  const absl::Time start = absl::Now();
  const auto seen = [&] {
    std::lock_guard lock(mutex);
    return unloaded;
  };
  {
    const RouterCore core(std::move(dependencies));
    while (seen().size() < 2 && absl::Now() - start < absl::Seconds(10)) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    EXPECT_EQ(seen(), (std::set<std::string>{"b:1 v-coder", "d:1 v-coder"}));
  }
  EXPECT_EQ(seen(), (std::set<std::string>{"a:1 v-coder", "b:1 v-coder",
                                           "d:1 v-coder"}));
}

TEST_F(RouterServiceTest, ADrainingExpertFinishesWhatRunsAndIsRemoved) {
  resolver_.Add("coder", {.words = {"x"}, .hang = true});
  resolver_.Add("chat", {.words = {"x"}});
  Result result;
  auto call = client_->Generate(Text("code"), Soon(), result.callbacks());
  ASSERT_TRUE(result.first_event.Wait());
  registry_.Set(MakeSnapshot(2, "coder"));
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_THAT(removed(), SizeIs(0));
  call->Cancel();
  ASSERT_TRUE(result.done.Wait());
  const absl::Time start = absl::Now();
  while (removed().empty() && absl::Now() - start < absl::Seconds(10)) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  ASSERT_FALSE(removed().empty());
  EXPECT_EQ(removed()[0], "coder 7");
}

TEST_F(RouterServiceTest, Embeds) {
  resolver_.Add("minilm", {});
  v1::EmbedRequest request;
  request.set_model("auto");
  EXPECT_EQ(client_->Embed(request, Soon()).status().code(),
            absl::StatusCode::kInvalidArgument);
  request.add_inputs("a");
  request.add_inputs("b");
  const auto response = client_->Embed(request, Soon());
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->embeddings_size(), 2);
  EXPECT_EQ(response->model(), "minilm");
  request.set_model("minilmm");
  const auto unknown = client_->Embed(request, Soon());
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Message(unknown.status())),
              HasSubstr("Did you mean: minilm"));
}

TEST_F(RouterServiceTest, ManyAtOnceWithCancels) {
  resolver_.Add("chat", {.words = std::vector<std::string>(50, "word")});
  std::vector<std::unique_ptr<Result>> results;
  std::vector<std::unique_ptr<StreamCall>> calls;
  for (int i = 0; i < 60; ++i) {
    results.push_back(std::make_unique<Result>());
    calls.push_back(
        client_->Generate(Text("hello"), Soon(), results.back()->callbacks()));
    if (i % 3 == 0) calls.back()->Cancel();
    if (i % 7 == 0) calls.back().reset();
  }
  for (int i = 0; i < 60; ++i) {
    ASSERT_TRUE(results[i]->done.Wait());
    if (i % 3 != 0 && i % 7 != 0) {
      EXPECT_TRUE(results[i]->status.ok()) << results[i]->status;
      EXPECT_EQ(results[i]->size(), 53u);
    }
  }
}

}  // namespace
}  // namespace conclave::router
