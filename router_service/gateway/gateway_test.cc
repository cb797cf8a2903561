// The whole gateway over real sockets, with a scripted router behind it.
#include "router_service/gateway/gateway.h"

#include <absl/time/clock.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "router_service/gateway/fake_router_client.h"
#include "router_service/gateway/raw_client.h"

namespace conclave::gateway {
namespace {

// ThreadSanitizer makes everything some ten times slower.
#ifdef __SANITIZE_THREAD__
constexpr absl::Duration kIdleSoon = absl::Seconds(5);
#else
constexpr absl::Duration kIdleSoon = absl::Milliseconds(500);
#endif

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string Post(const std::string& path, const std::string& body,
                 const std::string& headers = "") {
  return fmt::format(
      "POST {} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json"
      "\r\n{}content-length: {}\r\n\r\n{}",
      path, headers, body.size(), body);
}

std::string Get(const std::string& path, const std::string& headers = "") {
  return fmt::format("GET {} HTTP/1.1\r\nhost: localhost\r\n{}\r\n", path,
                     headers);
}

json Body(const std::string& response) {
  const size_t head = response.find("\r\n\r\n");
  if (head == std::string::npos) return json();
  return json::parse(response.substr(head + 4), nullptr, false);
}

constexpr char kHi[] =
    R"({"model":"auto","max_tokens":4,"seed":1,"messages":[{"role":"user","content":"hi"}]})";
// Streams until somebody stops it.
constexpr char kEndless[] =
    R"({"model":"auto","stream":true,"ignore_eos":true,"messages":[{"role":"user","content":"hi"}]})";

registry::Snapshot TwoExperts() {
  registry::Snapshot snapshot;
  snapshot.revision = 1;
  for (const char* name : {"chat", "coder"}) {
    registry::ExpertSpec spec;
    spec.name = name;
    snapshot.experts.emplace(
        name, std::make_shared<const registry::ExpertSpec>(spec));
  }
  return snapshot;
}

class GatewayTest : public ::testing::Test {
 protected:
  GatewayTest() : registry_(TwoExperts()) {
    options_.http.address = "127.0.0.1:0";
  }

  void StartGateway(router::FakeRouterOptions fake = {}) {
    router_ = std::make_unique<router::FakeRouterClient>(fake);
    GatewayDeps deps;
    deps.router = router_.get();
    deps.registry = &registry_;
    deps.not_ready = [this] { return not_ready_; };
    deps.gauges = [] {
      ModelGauges gauges = {"chat", 3, 2, 0.5};
      gauges.prefix_pages = 40;
      gauges.preemptions = 7;
      gauges.prefix_hits = 5;
      gauges.prefix_tokens_wanted = 2000;
      gauges.prefix_tokens_saved = 1500;
      gauges.draft_tokens = 90;
      gauges.accepted_tokens = 80;
      gauges.expert_hits = 70;
      gauges.expert_reads = 60;
      gauges.weight_bytes = 1000;
      return WorkerFigures{.models = {gauges},
                           .weights_budget = 4000,
                           .kv_budget = 2000,
                           .weights_resident = 1000,
                           .process_resident = 1500};
    };
    auto gateway = Gateway::Start(options_, deps);
    ASSERT_TRUE(gateway.ok()) << gateway.status();
    gateway_ = *std::move(gateway);
  }

  RawClient Connect() { return RawClient(gateway_->port()); }

  // One request on its own connection.
  std::string Ask(const std::string& request) {
    RawClient client(gateway_->port());
    EXPECT_TRUE(client.Send(request));
    return client.ReceiveResponse();
  }

  // Waits until no stream runs; how long that took.
  absl::Duration UntilIdle() {
    const absl::Time start = absl::Now();
    while (router_->running() > 0 && absl::Now() - start < absl::Seconds(10)) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    return absl::Now() - start;
  }

  GatewayOptions options_;
  registry::FixedSnapshot registry_;
  std::vector<std::string> not_ready_;
  std::unique_ptr<router::FakeRouterClient> router_;
  std::unique_ptr<Gateway> gateway_;
};

TEST_F(GatewayTest, AnswersWithDecisionHeadersAndTheExpertsName) {
  StartGateway();
  const std::string response = Ask(Post("/v1/chat/completions", kHi));
  EXPECT_THAT(response, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(response, HasSubstr("x-conclave-expert: chat\r\n"));
  EXPECT_THAT(response, HasSubstr("x-conclave-category: general\r\n"));
  EXPECT_THAT(response, HasSubstr("x-conclave-confidence: 0.8750\r\n"));
  const json body = Body(response);
  EXPECT_EQ(body["model"], "chat");
  EXPECT_EQ(body["usage"]["completion_tokens"], 4);
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
}

TEST_F(GatewayTest, RequestIdIsEchoedWhenValidAndMadeOtherwise) {
  StartGateway();
  EXPECT_THAT(Ask(Get("/livez", "x-request-id: abc-1\r\n")),
              HasSubstr("x-request-id: abc-1\r\n"));
  EXPECT_THAT(Ask(Get("/livez", "x-request-id: a b\r\n")),
              HasSubstr("x-request-id: req-"));
  Ask(Post("/v1/chat/completions", kHi, "x-request-id: mine\r\n"));
  EXPECT_EQ(router_->last_request().request_id(), "mine");
}

TEST_F(GatewayTest, StreamsEventsAndEndsWithDone) {
  StartGateway();
  RawClient client = Connect();
  client.Send(Post("/v1/chat/completions", R"({"model":"auto","stream":true,
      "max_tokens":3,"stream_options":{"include_usage":true},
      "messages":[{"role":"user","content":"hi"}]})"));
  ASSERT_TRUE(client.ReceiveUntil("\r\n0\r\n\r\n")) << client.received();
  const std::string& text = client.received();
  EXPECT_THAT(text, HasSubstr("content-type: text/event-stream"));
  EXPECT_THAT(text, HasSubstr("transfer-encoding: chunked"));
  EXPECT_THAT(text, HasSubstr(R"("delta":{"role":"assistant","content":""})"));
  EXPECT_THAT(text, HasSubstr(R"("choices":[],"usage":{"prompt_tokens")"));
  EXPECT_THAT(text, HasSubstr("data: [DONE]\n\n"));
}

TEST_F(GatewayTest, ErrorMidStreamIsAnEventAndNoCleanEnd) {
  StartGateway();
  RawClient client = Connect();
  client.Send(Post(
      "/v1/chat/completions",
      R"({"model":"broken","stream":true,"ignore_eos":true,"messages":[{"role":"user","content":"hi"}]})"));
  const std::string text = client.ReceiveAll();
  EXPECT_TRUE(client.closed());
  EXPECT_THAT(text, HasSubstr(R"("code":"data_loss")"));
  EXPECT_THAT(text, Not(HasSubstr("[DONE]")));
  EXPECT_THAT(text, Not(HasSubstr("\r\n0\r\n\r\n")));
}

TEST_F(GatewayTest, ErrorsBeforeTheFirstByteHaveTheirStatus) {
  StartGateway();
  const auto ask = [&](const std::string& model) {
    return Ask(Post(
        "/v1/chat/completions",
        R"({"model":")" + model +
            R"(","stream":true,"messages":[{"role":"user","content":"hi"}]})"));
  };
  std::string response = ask("busy");
  EXPECT_THAT(response, StartsWith("HTTP/1.1 429 "));
  EXPECT_THAT(response, HasSubstr("retry-after: 1\r\n"));
  response = ask("down");
  EXPECT_THAT(response, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(response, Not(HasSubstr("10.0.0.7")));
  response = ask("leaky");
  EXPECT_THAT(response, StartsWith("HTTP/1.1 500 "));
  EXPECT_THAT(response, Not(HasSubstr("secret")));
  response = ask("codr");
  EXPECT_THAT(response, StartsWith("HTTP/1.1 404 "));
  EXPECT_EQ(Body(response)["error"]["code"], "model_not_found");
  EXPECT_THAT(response, HasSubstr("Did you mean: coder"));
}

TEST_F(GatewayTest, ClosedClientFreesItsSlotWithin100Ms) {
  router::FakeRouterOptions fake;
  fake.token_delay = absl::Milliseconds(20);
  StartGateway(fake);
  for (bool reset : {false, true}) {
    RawClient client = Connect();
    client.Send(Post("/v1/chat/completions", kEndless));
    ASSERT_TRUE(client.ReceiveUntil("\"content\":\" "));
    ASSERT_EQ(router_->running(), 1);
    reset ? client.Reset() : client.Close();
    EXPECT_LT(UntilIdle(), absl::Milliseconds(100));
  }
  EXPECT_EQ(router_->cancelled(), 2);
}

TEST_F(GatewayTest, ClientThatLeavesBeforeTheFirstTokenIsNoticedToo) {
  router::FakeRouterOptions fake;
  fake.token_delay = absl::Seconds(1);  // "slow": 100 s to the first token
  StartGateway(fake);
  for (const char* stream : {"true", "false"}) {
    RawClient client = Connect();
    client.Send(Post("/v1/chat/completions",
                     fmt::format(R"({{"model":"slow","stream":{},
                       "messages":[{{"role":"user","content":"hi"}}]}})",
                                 stream)));
    while (router_->running() == 0) absl::SleepFor(absl::Milliseconds(1));
    client.Close();
    EXPECT_LT(UntilIdle(), absl::Milliseconds(100));
  }
}

TEST_F(GatewayTest, OneClientsLeavingLeavesItsNeighbourAlone) {
  router::FakeRouterOptions fake;
  fake.token_delay = absl::Milliseconds(5);
  StartGateway(fake);
  RawClient stays = Connect();
  stays.Send(Post("/v1/completions", R"({"model":"chat","prompt":"x",
      "max_tokens":40,"ignore_eos":true,"stream":true})"));
  ASSERT_TRUE(stays.ReceiveUntil("data: "));
  {
    RawClient leaves = Connect();
    leaves.Send(Post("/v1/chat/completions", kEndless));
    ASSERT_TRUE(leaves.ReceiveUntil("data: "));
  }
  EXPECT_TRUE(stays.ReceiveUntil("data: [DONE]"));
  EXPECT_EQ(router_->cancelled(), 1);
}

TEST_F(GatewayTest, AReaderThatStopsPausesItsStreamAndIsDisconnected) {
  options_.http.limits.write_stall = absl::Milliseconds(300);
  options_.http.limits.stream_buffer = 32 << 10;
  options_.http.limits.socket_buffer = 16 << 10;
  router::FakeRouterOptions fake;
  fake.pad_bytes = 16 << 10;
  StartGateway(fake);
  RawClient client(gateway_->port(), /*receive_buffer=*/8 << 10);
  client.Send(Post("/v1/chat/completions", kEndless));
  ASSERT_TRUE(client.ReceiveUntil("data: "));
  // It reads no more. 4096 tokens of 16 KiB would be 64 MiB.
  EXPECT_LT(UntilIdle(), absl::Seconds(3));
  EXPECT_EQ(router_->cancelled(), 1);
  EXPECT_LT(router_->sent_bytes(), 1 << 20);
}

// Takes 4 KiB now and then: too slow for the stream, which waits for it, and
// enough to stay.
TEST_F(GatewayTest, ATricklingReaderHoldsBackItsStreamAlone) {
  options_.http.limits.write_stall = absl::Milliseconds(500);
  options_.http.limits.stream_buffer = 64 << 10;
  options_.http.limits.socket_buffer = 16 << 10;
  router::FakeRouterOptions fake;
  fake.pad_bytes = 4 << 10;
  StartGateway(fake);
  RawClient client(gateway_->port(), /*receive_buffer=*/8 << 10);
  client.Send(Post("/v1/chat/completions", kEndless));
  const absl::Time start = absl::Now();
  while (absl::Now() - start < absl::Seconds(2)) {
    ASSERT_TRUE(client.Receive());
    absl::SleepFor(absl::Milliseconds(20));
    // What is on its way: the buffer, the sockets, and events in flight.
    ASSERT_LT(
        router_->sent_bytes() - static_cast<int64_t>(client.received().size()),
        512 << 10);
  }
  EXPECT_THAT(Ask(Post("/v1/chat/completions",
                       R"({"model":"auto","max_tokens":1,"messages":[
                           {"role":"user","content":"hi"}]})")),
              StartsWith("HTTP/1.1 200 "));
  // Once it reads as fast as it can, the whole of a long answer comes: it was
  // held back, not cut short.
  EXPECT_TRUE(client.ReceiveUntil("data: [DONE]"));
  EXPECT_EQ(router_->cancelled(), 0);
}

// Takes a byte at a time: each is progress, but not enough of it.
TEST_F(GatewayTest, AReaderOfSingleBytesIsDisconnected) {
  options_.http.limits.write_stall = absl::Milliseconds(300);
  options_.http.limits.socket_buffer = 8 << 10;
  router::FakeRouterOptions fake;
  fake.pad_bytes = 64 << 10;
  StartGateway(fake);
  RawClient client(gateway_->port(), /*receive_buffer=*/2 << 10);
  client.Send(Post("/v1/completions", R"({"model":"chat","prompt":"x",
      "max_tokens":64,"ignore_eos":true})"));  // 4 MiB at once
  ASSERT_TRUE(client.Receive(absl::Seconds(10), /*most=*/1));
  const absl::Time start = absl::Now();
  while (gateway_->connections() > 0 &&
         absl::Now() - start < absl::Seconds(10)) {
    client.Receive(absl::Milliseconds(100), /*most=*/1);
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_EQ(gateway_->connections(), 0);
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

TEST_F(GatewayTest, Http10GetsAStreamWithoutChunks) {
  StartGateway();
  const std::string body = R"({"model":"chat","prompt":"x","stream":true,
      "max_tokens":2,"ignore_eos":true})";
  RawClient client = Connect();
  client.Send(fmt::format(
      "POST /v1/completions HTTP/1.0\r\ncontent-type: application/json\r\n"
      "connection: keep-alive\r\ncontent-length: {}\r\n\r\n{}",
      body.size(), body));
  const std::string text = client.ReceiveAll();
  EXPECT_TRUE(client.closed());
  EXPECT_THAT(text, HasSubstr("connection: close\r\n"));
  EXPECT_THAT(text, Not(HasSubstr("chunked")));
  EXPECT_THAT(text, HasSubstr("\r\n\r\ndata: {"));
  EXPECT_THAT(text, ::testing::EndsWith("data: [DONE]\n\n"));
}

TEST_F(GatewayTest, KeepAliveAndPipelinedRequestsAreAnsweredInOrder) {
  StartGateway();
  RawClient client = Connect();
  client.Send(Get("/livez", "x-request-id: one\r\n") +
              Post("/v1/chat/completions", kHi, "x-request-id: two\r\n") +
              Get("/v1/models", "x-request-id: three\r\n"));
  EXPECT_THAT(client.ReceiveResponse(), HasSubstr("x-request-id: one\r\n"));
  EXPECT_THAT(client.ReceiveResponse(), HasSubstr("x-request-id: two\r\n"));
  EXPECT_THAT(client.ReceiveResponse(), HasSubstr("x-request-id: three\r\n"));
  client.Send(Get("/livez", "connection: close\r\n"));
  EXPECT_THAT(client.ReceiveAll(), HasSubstr("connection: close\r\n"));
  EXPECT_TRUE(client.closed());
}

TEST_F(GatewayTest, RequestInOneBytePiecesIsUnderstood) {
  StartGateway();
  RawClient client = Connect();
  for (char c : Post("/v1/chat/completions", kHi)) {
    ASSERT_TRUE(client.Send(std::string_view(&c, 1)));
  }
  EXPECT_THAT(client.ReceiveResponse(), StartsWith("HTTP/1.1 200 "));
}

TEST_F(GatewayTest, MalformedHttpGets400AndTheProcessStays) {
  StartGateway();
  const std::string json_head =
      "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
      "content-type: application/json\r\n";
  const std::string bad[] = {
      "\r\n\r\nGARBAGE\r\n\r\n",
      "GET /livez HTTP/9.9\r\n\r\n",
      std::string("GET /li\0vez HTTP/1.1\r\nhost: a\r\n\r\n", 33),
      "GET /livez HTTP/1.1\r\n\r\n",
      "GET /livez HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
      "GET /livez HTTP/1.1\r\nhost : a\r\n\r\n",
      // Two lengths, or a length and chunks: who reads which is smuggling.
      json_head +
          "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
          "0\r\n\r\n",
      json_head +
          "transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n"
          "0\r\n\r\n",
      json_head + "content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
      json_head + "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
      json_head + "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
      json_head +
          "transfer-encoding: chunked\r\n"
          "transfer-encoding: identity\r\n\r\n0\r\n\r\n",
      json_head + "content-length: -1\r\n\r\n",
      json_head + "content-length: 99999999999999999999999\r\n\r\n",
      json_head + "transfer-encoding: chunked\r\n\r\n-5\r\nabcde\r\n",
      json_head +
          "transfer-encoding: chunked\r\n\r\n"
          "FFFFFFFFFFFFFFFFF\r\nabcde\r\n",
  };
  for (const std::string& bytes : bad) {
    RawClient client = Connect();
    client.Send(bytes);
    const std::string response = client.ReceiveAll();
    EXPECT_THAT(response, StartsWith("HTTP/1.1 400 ")) << bytes;
    EXPECT_EQ(Body(response)["error"]["code"], "bad_http") << bytes;
    EXPECT_TRUE(client.closed()) << bytes;
  }
  EXPECT_THAT(Ask(Get("/livez")), StartsWith("HTTP/1.1 200 "));
}

TEST_F(GatewayTest, SizeLimits) {
  StartGateway();
  EXPECT_THAT(Ask(Get("/livez", "x: " + std::string(20000, 'a') + "\r\n")),
              StartsWith("HTTP/1.1 431 "));
  // Refused by its length alone.
  EXPECT_THAT(
      Ask("POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: "
          "application/json\r\ncontent-length: 9000000\r\n\r\n"),
      StartsWith("HTTP/1.1 413 "));
  // Refused while it comes.
  RawClient client = Connect();
  client.Send(
      "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: "
      "application/json\r\ntransfer-encoding: chunked\r\n\r\n");
  const std::string chunk = "100000\r\n" + std::string(1 << 20, ' ') + "\r\n";
  for (int i = 0; i < 10 && client.Send(chunk); ++i) {
  }
  EXPECT_TRUE(client.ReceiveUntil("HTTP/1.1 413 "));
}

TEST_F(GatewayTest, BodyIsNotReadForARouteThatIsNotThere) {
  StartGateway();
  const std::string response =
      Ask("POST /v1/nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: "
          "4000000\r\n\r\n");
  EXPECT_THAT(response, StartsWith("HTTP/1.1 404 "));
  EXPECT_EQ(Body(response)["error"]["code"], "unknown_route");
}

TEST_F(GatewayTest, ExpectContinueIsAnswered) {
  StartGateway();
  RawClient client = Connect();
  client.Send(fmt::format(
      "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: "
      "application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
      sizeof(kHi) - 1));
  ASSERT_TRUE(client.ReceiveUntil("HTTP/1.1 100 Continue\r\n\r\n"));
  client.Send(kHi);
  EXPECT_TRUE(client.ReceiveUntil("HTTP/1.1 200 "));
}

TEST_F(GatewayTest, SlowHeadersAndBodiesAreCutOffWithoutHurtingOthers) {
  options_.http.limits.header_timeout = absl::Milliseconds(200);
  options_.http.limits.body_timeout = absl::Milliseconds(200);
  StartGateway();
  RawClient silent = Connect();
  RawClient header = Connect();
  header.Send("GET /livez HTT");
  RawClient body = Connect();
  body.Send(
      "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: "
      "application/json\r\ncontent-length: 100\r\n\r\n{");
  EXPECT_THAT(Ask(Get("/livez")), StartsWith("HTTP/1.1 200 "));
  EXPECT_EQ(silent.ReceiveAll(), "");
  EXPECT_TRUE(silent.closed());
  EXPECT_THAT(header.ReceiveAll(), StartsWith("HTTP/1.1 408 "));
  EXPECT_THAT(body.ReceiveAll(), StartsWith("HTTP/1.1 408 "));
}

TEST_F(GatewayTest, IdleConnectionsAreClosed) {
  options_.http.limits.idle_timeout = absl::Milliseconds(200);
  StartGateway();
  RawClient client = Connect();
  client.Send(Get("/livez"));
  EXPECT_NE(client.ReceiveResponse(), "");
  EXPECT_FALSE(client.Receive(absl::Seconds(5)));
  EXPECT_TRUE(client.closed());
}

TEST_F(GatewayTest, ConnectionsBeyondTheLimitAreTurnedAway) {
  options_.http.limits.max_connections = 2;
  StartGateway();
  RawClient one = Connect();
  RawClient two = Connect();
  one.Send(Get("/livez"));
  two.Send(Get("/livez"));
  EXPECT_NE(one.ReceiveResponse(), "");
  EXPECT_NE(two.ReceiveResponse(), "");
  {
    RawClient three = Connect();
    EXPECT_TRUE(three.ReceiveUntil("HTTP/1.1 503 "));
  }
  one.Close();
  two.Close();
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_THAT(Ask(Get("/livez")), StartsWith("HTTP/1.1 200 "));
}

TEST_F(GatewayTest, RoutesAndMethods) {
  StartGateway();
  std::string response = Ask(Get("/v1/chat/completions"));
  EXPECT_THAT(response, StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(response, HasSubstr("allow: POST\r\n"));
  for (const char* path : {"/", "/v1", "/v1/", "/v1/models/", "/V1/models",
                           "/v1/../livez", "//livez", "/livez/"}) {
    EXPECT_THAT(Ask(Get(path)), StartsWith("HTTP/1.1 404 ")) << path;
  }
  EXPECT_THAT(Ask(Get("/livez?x=1")), StartsWith("HTTP/1.1 200 "));
  RawClient head = Connect();
  head.Send("HEAD /livez HTTP/1.1\r\nhost: localhost\r\n\r\n" + Get("/livez"));
  ASSERT_TRUE(head.ReceiveUntil("{\"live\":true}"));
  EXPECT_THAT(head.received(), HasSubstr("\r\n\r\nHTTP/1.1 200 OK\r\n"));
}

TEST_F(GatewayTest, ModelsListAutoFirstAndNameNeighbours) {
  StartGateway();
  const json list = Body(Ask(Get("/v1/models")));
  ASSERT_EQ(list["data"].size(), 3u);
  EXPECT_EQ(list["data"][0]["id"], "auto");
  EXPECT_EQ(list["data"][1]["id"], "chat");
  EXPECT_EQ(Body(Ask(Get("/v1/models/c%6fder")))["id"], "coder");
  EXPECT_THAT(Ask(Get("/v1/models/code")), HasSubstr("Did you mean: coder"));
  EXPECT_THAT(Ask(Get("/v1/models/%00")), StartsWith("HTTP/1.1 400 "));
}

TEST_F(GatewayTest, DecisionsAreShownExplainedAndScored) {
  StartGateway();
  const json routed = Body(Ask(Post("/v1/route", kHi)));
  std::vector<std::string> keys;
  for (const auto& [key, value] : routed.items()) keys.push_back(key);
  EXPECT_THAT(keys, ::testing::UnorderedElementsAre(
                        "request_id", "expert", "category", "confidence",
                        "novelty", "posterior", "candidates", "tier",
                        "router_us", "versions", "why"));
  const std::string id = routed["request_id"];
  EXPECT_THAT(Ask(Post("/v1/feedback",
                       R"({"request_id":")" + id + R"(","score":0.5})")),
              StartsWith("HTTP/1.1 200 "));
  const json explained = Body(Ask(Get("/v1/decisions/" + id)));
  EXPECT_EQ(explained["expert"], routed["expert"]);
  EXPECT_TRUE(explained["outcome"].is_null());
  EXPECT_EQ(explained["feedback"][0]["score"], 0.5);
  const json unknown = Body(Ask(Get("/v1/decisions/never")));
  EXPECT_EQ(unknown["error"]["code"], "decision_not_found");
  EXPECT_EQ(
      Body(Ask(Post("/v1/feedback",
                    R"({"request_id":"x","score":2})")))["error"]["param"],
      "score");
}

TEST_F(GatewayTest, ReadyzGivesReasonsAndMetricsSpeakVllm) {
  StartGateway();
  EXPECT_THAT(Ask(Get("/readyz")), StartsWith("HTTP/1.1 200 "));
  not_ready_ = {"no worker has joined"};
  const std::string response = Ask(Get("/readyz"));
  EXPECT_THAT(response, StartsWith("HTTP/1.1 503 "));
  EXPECT_EQ(Body(response)["reasons"][0], "no worker has joined");
  Ask(Post("/v1/chat/completions", kHi));
  const std::string metrics = Ask(Get("/metrics"));
  for (const char* line :
       {"vllm:num_requests_running{model_name=\"chat\"} 3",
        "vllm:num_requests_waiting{model_name=\"chat\"} 2",
        "vllm:kv_cache_usage_perc{model_name=\"chat\"} 0.5",
        "# TYPE conclave_prefix_cache_pages gauge",
        "conclave_prefix_cache_pages{model_name=\"chat\"} 40",
        "# TYPE conclave_prefix_cache_hits_total counter",
        "conclave_prefix_cache_hits_total{model_name=\"chat\"} 5",
        "vllm:num_preemptions_total{model_name=\"chat\"} 7",
        "vllm:prefix_cache_queries_total{model_name=\"chat\"} 2000",
        "vllm:prefix_cache_hits_total{model_name=\"chat\"} 1500",
        "vllm:spec_decode_num_draft_tokens_total{model_name=\"chat\"} 90",
        "vllm:spec_decode_num_accepted_tokens_total{model_name=\"chat\"} 80",
        "conclave_expert_cache_hits_total{model_name=\"chat\"} 70",
        "conclave_expert_cache_reads_total{model_name=\"chat\"} 60",
        "conclave_model_weights_bytes{model_name=\"chat\"} 1000",
        "conclave_weights_budget_bytes 4000",
        "conclave_kv_budget_bytes 2000",
        "conclave_process_resident_bytes 1500",
        "vllm:time_to_first_token_seconds_count{model_name=\"chat\"} 1",
        "vllm:inter_token_latency_seconds_count{model_name=\"chat\"} 3",
        "vllm:e2e_request_latency_seconds_count{model_name=\"chat\"} 1",
        "vllm:prompt_tokens_total{model_name=\"chat\"} 8",
        "vllm:generation_tokens_total{model_name=\"chat\"} 4",
        "vllm:request_success_total{finished_reason=\"length\","
        "model_name=\"chat\"} 1",
        "conclave_router_decisions_total{"}) {
    EXPECT_THAT(metrics, HasSubstr(line));
  }
}

TEST_F(GatewayTest, KeysGuardEverythingButTheProbes) {
  const std::string text = KeyLine("right", "acme") + "\n" +
                           KeyLine("scraper", "prom") + " metrics\n";
  options_.keys = *ApiKeys::Parse(text);
  StartGateway();
  for (const char* path :
       {"/v1/models", "/v1/models/chat", "/metrics", "/v1/decisions/x"}) {
    const std::string response = Ask(Get(path));
    EXPECT_THAT(response, StartsWith("HTTP/1.1 401 ")) << path;
    EXPECT_EQ(Body(response)["error"]["code"], "invalid_api_key");
  }
  for (const char* path : {"/v1/chat/completions", "/v1/completions",
                           "/v1/embeddings", "/v1/route", "/v1/feedback"}) {
    EXPECT_THAT(Ask(Post(path, "{}")), StartsWith("HTTP/1.1 401 ")) << path;
  }
  EXPECT_THAT(Ask(Get("/livez")), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Ask(Get("/readyz")), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Ask(Get("/metrics", "authorization: Bearer scraper\r\n")),
              StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Ask(Get("/v1/models", "authorization: Bearer scraper\r\n")),
              StartsWith("HTTP/1.1 403 "));
  EXPECT_THAT(
      Ask(Post("/v1/chat/completions", kHi, "authorization: bearer right\r\n")),
      StartsWith("HTTP/1.1 200 "));
  EXPECT_EQ(router_->last_request().tenant(), "acme");
}

TEST_F(GatewayTest, WithoutKeysOnlyLoopbackAndOnlyHonestBrowsers) {
  options_.http.address = "0.0.0.0:0";
  router::FakeRouterClient router;
  GatewayDeps deps;
  deps.router = &router;
  deps.registry = &registry_;
  const auto refused = Gateway::Start(options_, deps);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);

  options_.http.address = "127.0.0.1:0";
  StartGateway();
  EXPECT_THAT(Ask("GET /v1/models HTTP/1.1\r\nhost: evil.example:80\r\n\r\n"),
              StartsWith("HTTP/1.1 403 "));
  EXPECT_THAT(Ask("GET /v1/models HTTP/1.1\r\nhost: [::1]:80\r\n\r\n"),
              StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(Ask("POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
                  "content-type: text/plain\r\ncontent-length: 2\r\n\r\n{}"),
              StartsWith("HTTP/1.1 415 "));
}

TEST_F(GatewayTest, TakenPortIsSaidPlainly) {
  StartGateway();
  GatewayDeps deps;
  deps.router = router_.get();
  deps.registry = &registry_;
  GatewayOptions options;
  options.http.address = gateway_->address();
  const auto second = Gateway::Start(options, deps);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(Message(second.status())), HasSubstr("is taken"));
}

TEST_F(GatewayTest, TooManyAtOnceGet429) {
  options_.max_generations = 1;
  router::FakeRouterOptions fake;
  fake.token_delay = absl::Milliseconds(5);
  StartGateway(fake);
  RawClient first = Connect();
  first.Send(Post("/v1/chat/completions", kEndless));
  ASSERT_TRUE(first.ReceiveUntil("data: "));
  const std::string refused = Ask(Post("/v1/chat/completions", kHi));
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 429 "));
  EXPECT_THAT(refused, HasSubstr("retry-after: 1\r\n"));
}

TEST_F(GatewayTest, LargeBodiesAreParsedAsideAndAnswered) {
  router::FakeRouterOptions fake;
  fake.context = 10 << 20;
  StartGateway(fake);
  const json body = {{"model", "chat"},
                     {"prompt", std::string(300'000, 'a')},
                     {"max_tokens", 1}};
  const json answer = Body(Ask(Post("/v1/completions", body.dump())));
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 300'000);
}

TEST_F(GatewayTest, DrainLetsStreamsEndAndRefusesNewOnes) {
  router::FakeRouterOptions fake;
  fake.token_delay = absl::Milliseconds(10);
  StartGateway(fake);
  RawClient stream = Connect();
  stream.Send(Post("/v1/completions", R"({"model":"chat","prompt":"x",
      "max_tokens":30,"ignore_eos":true,"stream":true})"));
  ASSERT_TRUE(stream.ReceiveUntil("data: "));
  RawClient idle = Connect();
  idle.Send(Get("/livez"));
  EXPECT_NE(idle.ReceiveResponse(), "");
  bool clean = false;
  std::thread drain(
      [&] { clean = gateway_->Drain(absl::Now() + absl::Seconds(10)); });
  EXPECT_FALSE(idle.Receive());  // Closed at once.
  EXPECT_TRUE(stream.ReceiveUntil("data: [DONE]"));
  stream.Close();
  drain.join();
  EXPECT_TRUE(clean);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(gateway_->port()));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_NE(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
            0);
  close(fd);
}

TEST_F(GatewayTest, DrainCutsOffWhatDoesNotEnd) {
  router::FakeRouterOptions fake;
  fake.token_delay = absl::Milliseconds(10);
  StartGateway(fake);
  RawClient stream = Connect();
  stream.Send(Post("/v1/chat/completions", kEndless));
  ASSERT_TRUE(stream.ReceiveUntil("data: "));
  EXPECT_FALSE(gateway_->Drain(absl::Now() + absl::Milliseconds(100)));
  EXPECT_EQ(gateway_->active(), 0);
  EXPECT_EQ(router_->cancelled(), 1);
}

// Clients that come, ask and leave at random moments, on two server threads.
TEST_F(GatewayTest, StormOfLeavingClientsLeavesNothingBehind) {
  options_.http.threads = 2;
  router::FakeRouterOptions fake;
  fake.token_delay = absl::Milliseconds(1);
  StartGateway(fake);
  std::vector<std::thread> storm;
  for (int t = 0; t < 4; ++t) {
    storm.emplace_back([&, t] {
      for (int i = 0; i < 40; ++i) {
        RawClient client(gateway_->port());
        client.Send(Post("/v1/chat/completions", i % 3 == 0
                                                     ? std::string(kHi)
                                                     : std::string(kEndless)));
        absl::SleepFor(absl::Milliseconds((i * 7 + t * 3) % 12));
        if (i % 2 == 0) client.Reset();
      }
    });
  }
  for (std::thread& thread : storm) thread.join();
  EXPECT_LT(UntilIdle(), kIdleSoon);
  EXPECT_THAT(Ask(Get("/livez")), StartsWith("HTTP/1.1 200 "));
}

}  // namespace
}  // namespace conclave::gateway
