#include "router_service/dispatch/registry_resolver.h"

#include <absl/time/clock.h>
#include <gmock/gmock.h>

#include "expert_workers/upstream/testing/fake_upstream.h"
#include "expert_workers/upstream/testing/test_event.h"
#include "router_service/dispatch/dispatcher.h"

namespace conclave::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// Remembers what it was asked, and says what it is told.
class FakeWorker final : public workers::WorkerClient {
 public:
  std::unique_ptr<StreamCall> Generate(const v1::WorkerGenerateRequest& request,
                                       absl::Time,
                                       StreamCallbacks callbacks) override {
    last = request;
    callbacks.on_done(Unavailable("fake"));
    return nullptr;
  }
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request,
                                          absl::Time) override {
    last.set_model(request.model());
    return v1::EmbedResponse();
  }
  absl::StatusOr<v1::LoadResponse> Load(const v1::LoadRequest&,
                                        absl::Time) override {
    return v1::LoadResponse();
  }
  absl::StatusOr<v1::UnloadResponse> Unload(const v1::UnloadRequest&,
                                            absl::Time) override {
    return v1::UnloadResponse();
  }
  absl::StatusOr<v1::WorkerStats> Stats(absl::Time) override { return stats; }

  v1::WorkerGenerateRequest last;
  absl::StatusOr<v1::WorkerStats> stats = v1::WorkerStats();
};

class RegistryResolverTest : public ::testing::Test {
 protected:
  RegistryResolverTest() {
    snapshot_.models["m"].name = "m";
    snapshot_.models["m"].version = "v1";
    for (const char* name : {"w1", "w2", "w3"}) {
      registry::WorkerRecord& worker = snapshot_.workers[name];
      worker.name = name;
      worker.address = std::string(name) + ":1";
      worker.models = {"v1"};
    }
    snapshot_.workers["w3"].models = {"other"};
    Add("plain", [](registry::ExpertSpec& e) { e.model = "m"; });
    Add("pinned", [](registry::ExpertSpec& e) {
      e.model = "m";
      e.worker = "w2";
    });
    Add("pirate", [](registry::ExpertSpec& e) {
      e.base = "plain";
      e.prompt = "Arr.";
    });
    Add("remote", [](registry::ExpertSpec& e) {
      e.endpoint.url = "http://127.0.0.1:1/v1";
      e.endpoint.remote_model = "big";
      e.endpoint.api_key_env = "KEY";
    });
  }
  template <typename Fill>
  void Add(const std::string& name, Fill fill) {
    auto expert = std::make_shared<registry::ExpertSpec>();
    expert->name = name;
    fill(*expert);
    snapshot_.experts[name] = expert;
  }
  std::vector<std::string> Keys(const std::string& name) {
    std::vector<std::string> keys;
    const auto resolved = resolver_.Resolve(snapshot_, name);
    EXPECT_TRUE(resolved.ok()) << resolved.status();
    if (!resolved.ok()) return keys;
    for (const auto& target : resolved->targets) keys.push_back(target.key);
    return keys;
  }
  std::string Refusal(const std::string& name) {
    const auto resolved = resolver_.Resolve(snapshot_, name);
    return std::string(Message(resolved.status()));
  }

  registry::Snapshot snapshot_;
  std::map<std::string, std::shared_ptr<FakeWorker>> workers_;
  WorkerDirectory directory_{[this](const std::string& address) {
    return workers_[address] = std::make_shared<FakeWorker>();
  }};
  std::optional<std::string> key_;
  std::unique_ptr<upstream::UpstreamClient> upstream_ =
      *upstream::UpstreamClient::Create({});
  RegistryResolver resolver_{
      &directory_, upstream_.get(),
      [this](const std::string& name) -> std::optional<std::string> {
        return name == "KEY" ? key_ : std::nullopt;
      }};
};

TEST_F(RegistryResolverTest, FindsTheWorkersOfAModel) {
  EXPECT_THAT(Keys("plain"), ElementsAre("worker w1:1 m", "worker w2:1 m"));
  EXPECT_THAT(Keys("pinned"), ElementsAre("worker w2:1 m"));
  EXPECT_THAT(Keys("m"), SizeIs(2));  // the model by itself
  EXPECT_THAT(Refusal("nobody"), HasSubstr("no model is called nobody"));
  snapshot_.workers.erase("w2");
  EXPECT_THAT(Refusal("pinned"), HasSubstr("worker w2"));
  snapshot_.workers.clear();
  EXPECT_THAT(Refusal("plain"), HasSubstr("no worker that can run model m"));
}

TEST_F(RegistryResolverTest, PrefersWhereTheModelIsAndWhoIsFree) {
  directory_.Refresh(snapshot_, absl::Seconds(1));
  auto* const model = workers_["w2:1"]->stats->add_models();
  model->set_version("v1");
  model->set_total_bytes(10);
  model->set_resident_bytes(10);
  model->set_running(3);
  directory_.Refresh(snapshot_, absl::Seconds(1));
  EXPECT_THAT(Keys("plain"), ElementsAre("worker w2:1 m", "worker w1:1 m"));
  // Both have it: the free one first.
  *workers_["w1:1"]->stats->add_models() = *model;
  workers_["w1:1"]->stats->mutable_models(0)->set_running(0);
  directory_.Refresh(snapshot_, absl::Seconds(1));
  EXPECT_THAT(Keys("plain"), ElementsAre("worker w1:1 m", "worker w2:1 m"));
  // One that does not answer goes last.
  workers_["w1:1"]->stats = Unavailable("gone");
  directory_.Refresh(snapshot_, absl::Seconds(1));
  EXPECT_THAT(Keys("plain"), ElementsAre("worker w2:1 m", "worker w1:1 m"));
}

TEST_F(RegistryResolverTest, WrapsPromptExperts) {
  auto resolved = resolver_.Resolve(snapshot_, "pirate");
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_THAT(resolved->uses, ElementsAre("pirate", "plain"));
  v1::WorkerGenerateRequest request;
  auto* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("hello");
  absl::Status status;
  StreamCallbacks callbacks{[](const v1::GenerateEvent&) {},
                            [&](absl::Status s) { status = s; }};
  resolved->targets[0].target->Generate(request, absl::InfiniteFuture(),
                                        callbacks);
  const v1::WorkerGenerateRequest& seen = workers_["w1:1"]->last;
  EXPECT_EQ(seen.model(), "v1");
  ASSERT_EQ(seen.chat().messages_size(), 2);
  EXPECT_EQ(seen.chat().messages(0).role(), "system");
  EXPECT_EQ(seen.chat().messages(0).content(), "Arr.");
  request.mutable_tokens()->add_ids(1);
  resolved->targets[0].target->Generate(request, absl::InfiniteFuture(),
                                        callbacks);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  Add("loop", [](registry::ExpertSpec& e) { e.base = "loop"; });
  EXPECT_FALSE(resolver_.Resolve(snapshot_, "loop").ok());
}

TEST_F(RegistryResolverTest, EndpointsNeedTheirKey) {
  EXPECT_THAT(Refusal("remote"), HasSubstr("KEY"));
  key_ = "sk-1";
  EXPECT_THAT(Keys("remote"),
              ElementsAre("endpoint http://127.0.0.1:1/v1 big"));
}

TEST_F(RegistryResolverTest, AnEndpointAnswers) {
  const auto server =
      upstream::FakeUpstream::Start([](const upstream::FakeRequest&) {
        return upstream::ChatReply({"ahoy"});
      });
  Add("live", [&](registry::ExpertSpec& e) { e.endpoint.url = server->url(); });
  auto resolved = resolver_.Resolve(snapshot_, "live");
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  v1::WorkerGenerateRequest request;
  request.mutable_chat()->add_messages()->set_role("user");
  std::string text;
  absl::Status status;
  TestEvent done;
  StreamCallbacks callbacks;
  callbacks.on_event = [&](const v1::GenerateEvent& event) {
    text += event.delta().text();
  };
  callbacks.on_done = [&](absl::Status s) {
    status = std::move(s);
    done.Notify();
  };
  const auto call = resolved->targets[0].target->Generate(
      request, absl::Now() + absl::Seconds(10), callbacks);
  ASSERT_TRUE(done.Wait());
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(text, "ahoy");
}

// Endpoints that take the request and then hang: one says nothing, one only
// keeps its connection warm, one stops in the middle.
TEST_F(RegistryResolverTest, AnEndpointThatHangsMakesRoomForTheNext) {
  const auto mute =
      upstream::FakeUpstream::Start([](const upstream::FakeRequest&) {
        upstream::FakeReply reply = upstream::ChatReply({"late"});
        reply.silence = absl::Minutes(1);
        return reply;
      });
  const auto warm =
      upstream::FakeUpstream::Start([](const upstream::FakeRequest&) {
        upstream::FakeReply reply;
        reply.chunks = {": still here\n\n"};
        reply.pause = absl::Milliseconds(5);
        reply.endless = true;
        return reply;
      });
  const auto stops =
      upstream::FakeUpstream::Start([](const upstream::FakeRequest&) {
        upstream::FakeReply reply = upstream::ChatReply({"half"});
        reply.chunks.resize(2);  // the role, "half"
        reply.chunks.push_back(": still here\n\n");
        reply.pause = absl::Milliseconds(5);
        reply.endless = true;
        return reply;
      });
  for (const auto& [name, server] :
       {std::pair("mute", mute.get()), std::pair("warm", warm.get()),
        std::pair("stops", stops.get())}) {
    Add(name, [&](registry::ExpertSpec& e) { e.endpoint.url = server->url(); });
  }
  DispatchOptions options;
  options.first_token_timeout = absl::Milliseconds(200);
  options.token_timeout = absl::Milliseconds(200);
  Dispatcher dispatcher(&resolver_, &Clock::Real(), options);
  InFlight in_flight;
  DispatchRequest request;
  request.request.mutable_chat()->add_messages()->set_role("user");
  request.experts = {"mute", "warm", "stops"};
  request.snapshot = std::make_shared<const registry::Snapshot>(snapshot_);
  request.ticket = in_flight.Begin();
  std::string text;
  absl::Status status;
  v1::Outcome outcome;
  TestEvent done;
  DispatchCallbacks callbacks;
  callbacks.on_event = [&](const v1::GenerateEvent& event) {
    text += event.delta().text();
  };
  callbacks.on_done = [&](absl::Status s, v1::Outcome o) {
    status = std::move(s);
    outcome = std::move(o);
    done.Notify();
  };
  const auto call =
      dispatcher.Generate(std::move(request), std::move(callbacks));
  ASSERT_TRUE(done.Wait());
  EXPECT_THAT(
      outcome.attempts(),
      ElementsAre("mute: DEADLINE_EXCEEDED no first token came within 0.2 s",
                  "warm: DEADLINE_EXCEEDED no first token came within 0.2 s",
                  "stops: DEADLINE_EXCEEDED no token came within 0.2 s"));
  EXPECT_EQ(text, "half");
  EXPECT_EQ(Message(status), "expert stops: no token came within 0.2 s");
  // Their connections are given up too.
  const absl::Time start = absl::Now();
  while (warm->num_open() + stops->num_open() > 0 &&
         absl::Now() - start < absl::Seconds(10)) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(warm->num_open() + stops->num_open(), 0);
}

}  // namespace
}  // namespace conclave::router
