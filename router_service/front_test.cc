// Gateway and router together, from a real socket to a fake target: what only
// shows when all the queues between them are there.
#include <absl/time/clock.h>
#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>

#include "base/rpc/server.h"
#include "router_service/client.h"
#include "router_service/dispatch/fake_target.h"
#include "router_service/gateway/gateway.h"
#include "router_service/gateway/raw_client.h"
#include "router_service/service.h"

namespace conclave::router {
namespace {

using gateway::RawClient;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr int64_t kKiB = 1024;

class FrontTest : public ::testing::Test {
 protected:
  FrontTest() : registry_(OneExpert()) {
    std::string name =
        (std::filesystem::temp_directory_path() / "front_XXXXXX").string();
    path_ = mkdtemp(name.data());
    journal_ = *Journal::Open(path_, {}, &Clock::Real());
    RouterCoreDependencies dependencies;
    dependencies.decide = [](const v1::GenerateRequest& request,
                             const registry::Snapshot&) {
      Routing routing;
      routing.candidates = {request.model()};
      routing.decision.set_request_id(request.request_id());
      routing.decision.set_expert(request.model());
      return absl::StatusOr<Routing>(routing);
    };
    dependencies.registry = &registry_;
    dependencies.resolver = &resolver_;
    dependencies.journal = journal_.get();
    core_ = std::make_unique<RouterCore>(std::move(dependencies));
    service_ = std::make_unique<RouterService>(core_.get());
    server_ = *rpc::Server::Start("", {service_.get()});
    client_ = RouterClient::Create(server_->InProcessChannel());
    options_.http.address = "127.0.0.1:0";
    options_.http.limits.write_stall = absl::Seconds(30);
  }
  ~FrontTest() override {
    gateway_.reset();
    client_.reset();
    server_->Shutdown(absl::Now() + absl::Seconds(1));
    server_.reset();
    service_.reset();
    core_.reset();
    journal_.reset();
    std::filesystem::remove_all(path_);
  }

  static registry::Snapshot OneExpert() {
    registry::Snapshot snapshot;
    snapshot.revision = 1;
    return snapshot;
  }

  void StartGateway() {
    gateway::GatewayDeps deps;
    deps.router = client_.get();
    deps.registry = &registry_;
    auto gateway = gateway::Gateway::Start(options_, deps);
    ASSERT_TRUE(gateway.ok()) << gateway.status();
    gateway_ = *std::move(gateway);
  }

  // A stream of words of 4 KiB that does not end by itself.
  std::shared_ptr<FakeTarget> AddEndless(const std::string& expert) {
    return resolver_.Add(
        expert, {.words = {std::string(4 * kKiB, 'x')}, .endless = true});
  }

  static std::string Post(const std::string& path, const std::string& body,
                          const std::string& headers = "") {
    return fmt::format(
        "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: "
        "application/json\r\n{}content-length: {}\r\n\r\n{}",
        path, headers, body.size(), body);
  }
  static std::string Chat(const std::string& model, bool stream) {
    return Post("/v1/chat/completions",
                fmt::format(R"({{"model":"{}","stream":{},
                    "messages":[{{"role":"user","content":"hi"}}]}})",
                            model, stream));
  }
  std::unique_ptr<RawClient> StartReader(const std::string& expert) {
    auto client = std::make_unique<RawClient>(gateway_->port(),
                                              /*receive_buffer=*/8 * kKiB);
    client->Send(Chat(expert, /*stream=*/true));
    EXPECT_TRUE(client->ReceiveUntil("data: "));
    return client;
  }
  std::string Ask(const std::string& request) {
    RawClient client(gateway_->port());
    EXPECT_TRUE(client.Send(request));
    return client.ReceiveResponse();
  }

  std::string path_;
  registry::FixedSnapshot registry_;
  FakeResolver resolver_;
  std::unique_ptr<Journal> journal_;
  std::unique_ptr<RouterCore> core_;
  std::unique_ptr<RouterService> service_;
  std::unique_ptr<rpc::Server> server_;
  std::unique_ptr<RouterClient> client_;
  gateway::GatewayOptions options_;
  std::unique_ptr<gateway::Gateway> gateway_;
};

// gRPC has two callback threads on a small machine. Readers that stall must
// not sit on them.
TEST_F(FrontTest, StalledReadersPauseTheirTargetsAndFreezeNobody) {
  constexpr int kReaders = 8;
  const auto endless = AddEndless("endless");
  resolver_.Add("chat", {.words = {"Hello"}});
  StartGateway();
  std::vector<std::unique_ptr<RawClient>> readers;
  for (int i = 0; i < kReaders; ++i) {
    readers.push_back(StartReader("endless"));
  }
  // Until the queues have filled.
  int64_t sent = -1;
  const absl::Time start = absl::Now();
  while (sent != endless->sent_bytes() &&
         absl::Now() - start < absl::Seconds(10)) {
    sent = endless->sent_bytes();
    absl::SleepFor(absl::Milliseconds(200));
  }
  EXPECT_EQ(sent, endless->sent_bytes()) << "a target goes on";
  // Per stream: 128 KiB in the gateway, 256 KiB in the router, the sockets
  // and what was on its way when they filled.
  EXPECT_LT(sent, kReaders * 1024 * kKiB);
  const absl::Time asked = absl::Now();
  EXPECT_THAT(Ask(Chat("chat", /*stream=*/false)), StartsWith("HTTP/1.1 200 "));
  EXPECT_LT(absl::Now() - asked, absl::Seconds(2));
  // The answer's last byte arrives before its connection is given up.
  while (gateway_->active() > kReaders &&
         absl::Now() - asked < absl::Seconds(10)) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(gateway_->active(), kReaders);
  for (auto& reader : readers) reader->Close();
  while (gateway_->active() > 0) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(FrontTest, ATricklingReaderGetsItsStreamAtItsOwnPace) {
  const auto endless = AddEndless("endless");
  StartGateway();
  const auto reader = StartReader("endless");
  const auto on_its_way = [&] {
    return endless->sent_bytes() -
           static_cast<int64_t>(reader->received().size());
  };
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(reader->Receive());
    ASSERT_LT(on_its_way(), 1024 * kKiB);
    absl::SleepFor(absl::Milliseconds(10));
  }
  // When it hurries, so does the stream.
  const size_t slowly = reader->received().size();
  while (reader->received().size() < slowly + 8 * kKiB * kKiB) {
    ASSERT_TRUE(reader->Receive());
    ASSERT_LT(on_its_way(), 1024 * kKiB);
  }
  EXPECT_EQ(gateway_->active(), 1);
}

// What a key made is seen and scored by that key's tenant alone.
TEST_F(FrontTest, DecisionsBelongToTheirTenant) {
  const auto key = [](const char* name) {
    return gateway::KeyLine(fmt::format("key-of-{}", name), name) + "\n";
  };
  options_.keys = *gateway::ApiKeys::Parse(key("acme") + key("globex"));
  resolver_.Add("chat", {.words = {"Hello"}});
  resolver_.Add("coder", {.words = {"int"}});
  StartGateway();
  const auto headers = [](const char* tenant, const char* id) {
    return fmt::format(
        "authorization: Bearer key-of-{}\r\nx-request-id: {}\r\n", tenant, id);
  };
  const auto chat = [&](const char* tenant, const char* id,
                        const char* expert) {
    return Ask(Post("/v1/chat/completions",
                    fmt::format(R"({{"model":"{}","messages":[
                        {{"role":"user","content":"hi"}}]}})",
                                expert),
                    headers(tenant, id)));
  };
  const auto decision = [&](const char* tenant, const char* id) {
    return Ask(
        fmt::format("GET /v1/decisions/{} HTTP/1.1\r\nhost: localhost"
                    "\r\n{}\r\n",
                    id, headers(tenant, "get")));
  };
  const auto score = [&](const char* tenant, const char* id) {
    return Ask(Post("/v1/feedback",
                    fmt::format(R"({{"request_id":"{}","score":1}})", id),
                    headers(tenant, "score")));
  };
  ASSERT_THAT(chat("acme", "a1", "chat"), StartsWith("HTTP/1.1 200 "));
  ASSERT_THAT(Ask(Post("/v1/route", R"({"model":"coder","messages":[
                           {"role":"user","content":"hi"}]})",
                       headers("acme", "a2"))),
              StartsWith("HTTP/1.1 200 "));
  for (const char* id : {"a1", "a2"}) {
    EXPECT_THAT(decision("acme", id), StartsWith("HTTP/1.1 200 "));
    const std::string stranger = decision("globex", id);
    EXPECT_THAT(stranger, StartsWith("HTTP/1.1 404 "));
    EXPECT_THAT(stranger, HasSubstr("decision_not_found"));
    EXPECT_THAT(stranger, Not(HasSubstr("acme")));
    EXPECT_THAT(score("globex", id), StartsWith("HTTP/1.1 404 "));
  }
  EXPECT_THAT(decision("acme", "a1"), HasSubstr(R"("feedback":[])"));
  EXPECT_THAT(score("acme", "a1"), StartsWith("HTTP/1.1 200 "));
  // A stranger's request of the same id is another request.
  ASSERT_THAT(chat("globex", "a1", "coder"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(decision("globex", "a1"), HasSubstr(R"("expert":"coder")"));
  const std::string mine = decision("acme", "a1");
  EXPECT_THAT(mine, HasSubstr(R"("expert":"chat")"));
  EXPECT_THAT(mine, HasSubstr(R"("score":1.0)"));
  EXPECT_THAT(mine, HasSubstr(R"("completion_tokens":1)"));
  // Nor does a tenant's name with an id pass for an id.
  EXPECT_THAT(decision("globex", "acme%2Fa1"), StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(decision("globex", "acme/a1"), StartsWith("HTTP/1.1 400 "));
}

}  // namespace
}  // namespace conclave::router
