#include "expert_workers/upstream/client.h"

#include <absl/time/clock.h>
#include <gmock/gmock.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "expert_workers/upstream/testing/fake_upstream.h"
#include "expert_workers/upstream/testing/test_event.h"

namespace conclave::upstream {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// Gathers what a stream sends.
struct Collected {
  std::mutex mutex;
  std::vector<v1::GenerateEvent> events;
  TestEvent done;
  absl::Status status;
  TestEvent first_event;

  StreamCallbacks callbacks() {
    StreamCallbacks out;
    out.on_event = [this](const v1::GenerateEvent& event) {
      std::lock_guard lock(mutex);
      events.push_back(event);
      if (events.size() == 1) first_event.Notify();
    };
    out.on_done = [this](absl::Status s) {
      status = std::move(s);
      done.Notify();
    };
    return out;
  }
  std::string text() {
    std::lock_guard lock(mutex);
    std::string out;
    for (const auto& event : events) out += event.delta().text();
    return out;
  }
};

class UpstreamClientTest : public ::testing::Test {
 protected:
  void MakeClient(UpstreamOptions options = {}) {
    auto client = UpstreamClient::Create(options);
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  static v1::WorkerGenerateRequest Chat(const std::string& text = "hi") {
    v1::WorkerGenerateRequest request;
    auto* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(text);
    return request;
  }

  // Runs one request to its end.
  absl::Status Run(const std::string& url,
                   const v1::WorkerGenerateRequest& request,
                   Collected& collected,
                   absl::Duration timeout = absl::Seconds(20)) {
    if (client_ == nullptr) MakeClient();
    UpstreamEndpoint endpoint;
    endpoint.url = url;
    endpoint.remote_model = "llama-70b";
    endpoint.api_key = "sk-test";
    endpoint.insecure = insecure_;
    const auto call = client_->Generate(
        request, endpoint, absl::Now() + timeout, collected.callbacks());
    EXPECT_TRUE(collected.done.Wait());
    return collected.status;
  }
  absl::Status Run(const std::string& url) {
    Collected collected;
    return Run(url, Chat(), collected);
  }
  absl::Status RunReply(FakeReply reply) {
    const auto server =
        FakeUpstream::Start([reply](const FakeRequest&) { return reply; });
    return Run(server->url());
  }

  std::unique_ptr<UpstreamClient> client_;
  bool insecure_ = false;
};

TEST_F(UpstreamClientTest, StreamsAChat) {
  const auto server = FakeUpstream::Start([](const FakeRequest&) {
    return ChatReply({"Hel", "lo", " world"});
  });
  Collected collected;
  auto request = Chat("say hello");
  request.mutable_sampling()->set_max_tokens(5);
  request.mutable_sampling()->set_temperature(0);
  ASSERT_TRUE(Run(server->url(), request, collected).ok()) << collected.status;
  ASSERT_THAT(collected.events, SizeIs(6));
  EXPECT_EQ(collected.events[0].started().model(), "remote");
  EXPECT_EQ(collected.text(), "Hello world");
  EXPECT_EQ(collected.events[4].finished().reason(), "stop");
  EXPECT_EQ(collected.events[5].usage().prompt_tokens(), 7);
  EXPECT_EQ(collected.events[5].usage().completion_tokens(), 3);

  ASSERT_THAT(server->requests(), SizeIs(1));
  const FakeRequest seen = server->requests()[0];
  EXPECT_EQ(seen.path, "/v1/chat/completions");
  EXPECT_EQ(seen.authorization, "Bearer sk-test");
  const auto body = nlohmann::json::parse(seen.body);
  EXPECT_EQ(body["model"], "llama-70b");
  EXPECT_EQ(body["messages"][0]["content"], "say hello");
  EXPECT_EQ(body["stream"], true);
  EXPECT_EQ(body["max_tokens"], 5);
  EXPECT_EQ(body["temperature"], 0);
  EXPECT_FALSE(body.contains("top_p"));
}

TEST_F(UpstreamClientTest, StreamsACompletionWithLogprobs) {
  FakeReply reply;
  reply.chunks = {
      SseEvent(R"({"model":"m","choices":[{"index":0,"text":"ab","logprobs":{
          "tokens":["a","b"],"token_logprobs":[-0.5,null],
          "top_logprobs":[{"x":-2.0,"a":-0.5},null]}}]})"),
      SseEvent(R"({"choices":[{"index":1,"text":"c",
          "finish_reason":"length"}]})"),
      SseEvent(R"({"choices":[{"index":0,"text":"",
          "finish_reason":"stop"}]})"),
      SseEvent("[DONE]")};
  // A stream of many lines in one event: data continues on each.
  for (std::string& chunk : reply.chunks) {
    for (size_t at = chunk.find("\n "); at != std::string::npos;
         at = chunk.find("\n ")) {
      chunk.replace(at, 2, " ");
    }
  }
  const auto server =
      FakeUpstream::Start([reply](const FakeRequest&) { return reply; });
  v1::WorkerGenerateRequest request;
  request.mutable_tokens()->add_ids(5);
  request.mutable_tokens()->add_ids(6);
  request.mutable_sampling()->set_n(2);
  request.mutable_sampling()->set_logprobs(2);
  Collected collected;
  ASSERT_TRUE(Run(server->url(), request, collected).ok()) << collected.status;
  ASSERT_THAT(collected.events, SizeIs(6));
  const auto& delta = collected.events[1].delta();
  ASSERT_EQ(delta.logprobs_size(), 2);
  EXPECT_EQ(delta.logprobs(0).token(), -1);
  EXPECT_EQ(delta.logprobs(0).text(), "a");
  EXPECT_FLOAT_EQ(delta.logprobs(0).logprob(), -0.5f);
  ASSERT_EQ(delta.logprobs(0).top_size(), 2);
  EXPECT_EQ(delta.logprobs(0).top(0).text(), "a");
  EXPECT_EQ(collected.events[2].delta().index(), 1);
  EXPECT_EQ(collected.events[3].finished().reason(), "length");
  const FakeRequest seen = server->requests()[0];
  EXPECT_EQ(seen.path, "/v1/completions");
  EXPECT_EQ(nlohmann::json::parse(seen.body)["prompt"],
            (std::vector<int>{5, 6}));
}

TEST_F(UpstreamClientTest, PassesToolCallsThrough) {
  FakeReply reply;
  reply.chunks = {
      SseEvent(R"({"choices":[{"index":0,"delta":{"tool_calls":[)"
               R"({"index":0,"id":"c1","function":{"name":"f"}}]}}]})"),
      SseEvent(R"({"choices":[{"index":0,"delta":{},)"
               R"("finish_reason":"tool_calls"}]})"),
      SseEvent("[DONE]")};
  const auto server =
      FakeUpstream::Start([reply](const FakeRequest&) { return reply; });
  Collected collected;
  auto request = Chat();
  request.mutable_chat()->set_tools_json(
      R"([{"type":"function","function":{"name":"f"}}])");
  ASSERT_TRUE(Run(server->url(), request, collected).ok());
  EXPECT_THAT(collected.events[1].delta().tool_calls_json(),
              HasSubstr(R"("name":"f")"));
  EXPECT_EQ(collected.events[2].finished().reason(), "tool_calls");
  EXPECT_TRUE(
      nlohmann::json::parse(server->requests()[0].body)["tools"].is_array());
}

TEST_F(UpstreamClientTest, KeepsConnections) {
  const auto server =
      FakeUpstream::Start([](const FakeRequest&) { return ChatReply({"x"}); });
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(Run(server->url()).ok());
    // The end of a message trails the answer by a moment.
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_EQ(server->num_connections(), 1);
  EXPECT_THAT(server->requests(), SizeIs(5));
}

TEST_F(UpstreamClientTest, AConnectionThatWentStaleIsReplaced) {
  auto server = FakeUpstream::Start([](const FakeRequest& request) {
    FakeReply reply = ChatReply({"x"});
    // Says keep-alive, then closes.
    reply.cut = false;
    if (request.body.find("first") != std::string::npos) {
      reply.raw =
          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
          "Transfer-Encoding: chunked\r\n\r\n";
      for (const std::string& chunk : reply.chunks) {
        reply.raw += fmt::format("{:x}\r\n{}\r\n", chunk.size(), chunk);
      }
      reply.raw += "0\r\n\r\n";
    }
    return reply;
  });
  Collected first;
  ASSERT_TRUE(Run(server->url(), Chat("first"), first).ok()) << first.status;
  absl::SleepFor(absl::Milliseconds(50));
  Collected second;
  EXPECT_TRUE(Run(server->url(), Chat("second"), second).ok()) << second.status;
  EXPECT_EQ(server->num_connections(), 2);
}

struct BadReply {
  const char* name;
  FakeReply reply;
  absl::StatusCode code;
  const char* message;
};

BadReply Http(const char* name, int status, absl::StatusCode code,
              const char* message) {
  BadReply bad{name, {}, code, message};
  bad.reply.status = status;
  bad.reply.content_type = "application/json";
  bad.reply.chunks = {R"({"error":{"message":"because","code":"some_code"}})"};
  return bad;
}
BadReply Stream(const char* name, std::vector<std::string> chunks,
                const char* message) {
  BadReply bad{name, {}, absl::StatusCode::kUnavailable, message};
  bad.reply.chunks = std::move(chunks);
  return bad;
}
BadReply Raw(const char* name, std::string raw, const char* message) {
  BadReply bad{name, {}, absl::StatusCode::kUnavailable, message};
  bad.reply.raw = std::move(raw);
  return bad;
}

TEST_F(UpstreamClientTest, NonsenseGetsACleanError) {
  const std::string good = ChatReply({"x"}).chunks[1];
  std::vector<BadReply> all = {
      Http("400", 400, absl::StatusCode::kInvalidArgument,
           "(400): some_code: because"),
      Http("401", 401, absl::StatusCode::kUnavailable, "API key"),
      Http("404", 404, absl::StatusCode::kUnavailable, "does not know"),
      Http("429", 429, absl::StatusCode::kResourceExhausted, "slow down"),
      Http("500", 500, absl::StatusCode::kUnavailable, "HTTP 500"),
      Http("503", 503, absl::StatusCode::kUnavailable, "HTTP 503"),
      Http("307", 307, absl::StatusCode::kUnavailable, "redirect"),
      Http("100", 100, absl::StatusCode::kUnavailable, ""),
      Stream("no events", {}, "without [DONE]"),
      Stream("only done", {SseEvent("[DONE]")}, "ended early"),
      Stream("no done", {good}, "without [DONE]"),
      Stream("bad JSON", {SseEvent("{\"choices\":[")}, "no JSON object"),
      Stream("not an object", {SseEvent("[1]")}, "no JSON object"),
      Stream("no choices", {SseEvent("{}")}, "no choices"),
      Stream("odd choice", {SseEvent(R"({"choices":[3]})")}, "no object"),
      Stream("odd index", {SseEvent(R"({"choices":[{"index":9}]})")},
             "index 9 of 1"),
      Stream("deep", {SseEvent(std::string(10000, '['))}, "no JSON object"),
      Stream("bad UTF-8", {SseEvent("{\"choices\":\"\xff\"}")},
             "no JSON object"),
      Stream("error object",
             {good, SseEvent(R"({"error":{"message":"boom"}})")}, "boom"),
      Stream("error text", {SseEvent(R"({"error":"boom"})")}, "boom"),
      Stream("long line", {"data: " + std::string(3 << 20, 'x')},
             "longer than"),
      Raw("not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP"),
      Raw("closes", "\r", "cannot read its answer"),
      Raw("half a header", "HTTP/1.1 200 OK\r\nContent-Ty",
          "closed the connection early"),
      Raw("long header",
          "HTTP/1.1 200 OK\r\nX: " + std::string(100'000, 'x') + "\r\n\r\n",
          "header is too long"),
      Raw("half a body",
          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
          "Content-Length: 1000\r\n\r\ndata: ",
          "closed the connection early"),
      Raw("bad chunk",
          "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
          "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
          "cannot read its answer"),
  };
  BadReply html{"html", {}, absl::StatusCode::kUnavailable, "text/html"};
  html.reply.content_type = "text/html; charset=utf-8";
  html.reply.chunks = {"<html>hello</html>"};
  all.push_back(html);
  BadReply cut = Stream("cut", {good}, "closed the connection early");
  cut.reply.cut = true;
  all.push_back(cut);

  UpstreamOptions options;
  options.max_response_bytes = size_t{8} << 20;
  MakeClient(options);
  for (const BadReply& bad : all) {
    SCOPED_TRACE(bad.name);
    const absl::Status status = RunReply(bad.reply);
    EXPECT_EQ(status.code(), bad.code) << status;
    EXPECT_THAT(
        std::string(Message(status)),
        AllOf(HasSubstr("endpoint 127.0.0.1:"), HasSubstr(bad.message)));
  }
}

TEST_F(UpstreamClientTest, AnEndlessAnswerMeetsTheLimit) {
  UpstreamOptions options;
  options.max_response_bytes = size_t{1} << 20;
  MakeClient(options);
  FakeReply reply;
  reply.chunks = {": " + std::string(60'000, 'x') + "\n\n"};
  reply.endless = true;
  const absl::Status status = RunReply(reply);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(Message(status)), HasSubstr("too long"));
}

TEST_F(UpstreamClientTest, ARedirectIsNotFollowed) {
  const auto target = FakeUpstream::Start(
      [](const FakeRequest&) { return ChatReply({"secret"}); });
  FakeReply reply;
  reply.status = 308;
  reply.headers = {{"Location", target->url()}};
  EXPECT_EQ(RunReply(reply).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(target->num_connections(), 0);
}

TEST_F(UpstreamClientTest, RefusedAndUnknownHosts) {
  std::string url;
  {
    const auto server =
        FakeUpstream::Start([](const FakeRequest&) { return FakeReply{}; });
    url = server->url();
  }
  absl::Status status = Run(url);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(Message(status)), HasSubstr("cannot connect"));
  EXPECT_EQ(Run("http://no-such-host.invalid/v1").code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(Run("gopher://x").code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(UpstreamClientTest, SlowServersMeetTimeouts) {
  UpstreamOptions options;
  options.first_byte_timeout = absl::Milliseconds(100);
  options.idle_timeout = absl::Milliseconds(100);
  MakeClient(options);
  FakeReply silent = ChatReply({"x"});
  silent.silence = absl::Seconds(5);
  const absl::Time start = absl::Now();
  EXPECT_EQ(RunReply(silent).code(), absl::StatusCode::kDeadlineExceeded);
  FakeReply halting = ChatReply({"x"});
  halting.pause = absl::Seconds(5);
  EXPECT_EQ(RunReply(halting).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LT(absl::Now() - start, absl::Seconds(3));

  MakeClient();
  const auto server =
      FakeUpstream::Start([silent](const FakeRequest&) { return silent; });
  Collected collected;
  const absl::Status status =
      Run(server->url(), Chat(), collected, absl::Milliseconds(100));
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(Message(status)), HasSubstr("deadline"));
}

TEST_F(UpstreamClientTest, CancelClosesTheConnectionAtOnce) {
  FakeReply reply = ChatReply({"x"});
  reply.chunks.resize(2);
  reply.chunks.push_back(": wait\n\n");
  reply.pause = absl::Milliseconds(1);
  reply.endless = true;
  const auto server =
      FakeUpstream::Start([reply](const FakeRequest&) { return reply; });
  MakeClient();
  UpstreamEndpoint endpoint;
  endpoint.url = server->url();
  Collected collected;
  auto call = client_->Generate(Chat(), endpoint, absl::InfiniteFuture(),
                                collected.callbacks());
  ASSERT_TRUE(collected.first_event.Wait());
  const absl::Time start = absl::Now();
  call->Cancel();
  ASSERT_TRUE(collected.done.Wait());
  EXPECT_EQ(collected.status.code(), absl::StatusCode::kCancelled);
  while (server->num_open() > 0 && absl::Now() - start < absl::Seconds(5)) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(server->num_open(), 0);
  EXPECT_LT(absl::Now() - start, absl::Milliseconds(500));
  call.reset();

  // Destroying one is enough as well.
  Collected second;
  call = client_->Generate(Chat(), endpoint, absl::InfiniteFuture(),
                           second.callbacks());
  call.reset();
  EXPECT_TRUE(second.done.HasHappened());
}

TEST_F(UpstreamClientTest, PauseHoldsTheStreamBack) {
  const auto server = FakeUpstream::Start([](const FakeRequest&) {
    FakeReply reply = ChatReply(std::vector<std::string>(200, "word "));
    reply.pause = absl::Milliseconds(1);
    return reply;
  });
  MakeClient();
  UpstreamEndpoint endpoint;
  endpoint.url = server->url();
  Collected collected;
  const auto call = client_->Generate(Chat(), endpoint, absl::InfiniteFuture(),
                                      collected.callbacks());
  ASSERT_TRUE(collected.first_event.Wait());
  call->Pause();
  absl::SleepFor(absl::Milliseconds(50));
  const size_t before = collected.text().size();
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_EQ(collected.text().size(), before);
  EXPECT_LT(before, 1000u);
  call->Resume();
  ASSERT_TRUE(collected.done.Wait());
  EXPECT_TRUE(collected.status.ok()) << collected.status;
  EXPECT_EQ(collected.text().size(), 1000u);
}

TEST_F(UpstreamClientTest, VerifiesCertificates) {
  const TestCa ca;
  const TestCa stranger;
  std::string path =
      (std::filesystem::temp_directory_path() / "ca_XXXXXX").string();
  const int fd = mkstemp(path.data());
  ASSERT_GE(fd, 0);
  close(fd);
  std::ofstream(path) << ca.ca_pem();
  UpstreamOptions options;
  options.ca_file = path;
  MakeClient(options);
  std::filesystem::remove(path);

  struct Case {
    const char* name;
    TestCertificate certificate;
    std::string host;
    const char* error;  // nullptr: accepted
  };
  for (const Case& c : std::vector<Case>{
           {"name", ca.Issue("localhost"), "localhost", nullptr},
           {"address", ca.Issue("127.0.0.1"), "127.0.0.1", nullptr},
           {"other name", ca.Issue("example.com"), "localhost", "mismatch"},
           {"other address", ca.Issue("127.0.0.2"), "127.0.0.1", "mismatch"},
           {"expired", ca.Issue("localhost", -1), "localhost", "expired"},
           {"stranger", stranger.Issue("localhost"), "localhost",
            "certificate"}}) {
    SCOPED_TRACE(c.name);
    const auto server = FakeUpstream::Start(
        [](const FakeRequest&) { return ChatReply({"x"}); }, &c.certificate);
    const absl::Status status = Run(server->url(c.host));
    if (c.error == nullptr) {
      EXPECT_TRUE(status.ok()) << status;
      continue;
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    EXPECT_THAT(std::string(Message(status)), HasSubstr(c.error));
    EXPECT_THAT(server->requests(), SizeIs(0));  // the key was never sent
    insecure_ = true;
    EXPECT_TRUE(Run(server->url(c.host)).ok());
    insecure_ = false;
    EXPECT_FALSE(Run(server->url(c.host)).ok());  // not from insecure's pool
  }
}

TEST_F(UpstreamClientTest, Embeds) {
  FakeReply reply;
  reply.content_type = "application/json";
  reply.chunks = {R"({"data":[{"index":1,"embedding":[3,4]},)"
                  R"({"index":0,"embedding":[1,2]}],"model":"e",)"
                  R"("usage":{"prompt_tokens":4}})"};
  const auto server =
      FakeUpstream::Start([&](const FakeRequest&) { return reply; });
  MakeClient();
  UpstreamEndpoint endpoint;
  endpoint.url = server->url();
  endpoint.remote_model = "e";
  v1::EmbedRequest request;
  request.add_inputs("a");
  request.add_inputs("b");
  auto response = client_->Embed(request, endpoint, absl::InfiniteFuture());
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->embeddings_size(), 2);
  EXPECT_THAT(response->embeddings(0).values(), ElementsAre(1, 2));
  EXPECT_THAT(response->embeddings(1).values(), ElementsAre(3, 4));
  EXPECT_EQ(response->prompt_tokens(), 4);
  EXPECT_EQ(server->requests()[0].path, "/v1/embeddings");

  request.add_inputs("c");
  response = client_->Embed(request, endpoint, absl::InfiniteFuture());
  EXPECT_EQ(response.status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(UpstreamClientTest, RefusesWhatTheProtocolCannotSay) {
  Collected collected;
  v1::WorkerGenerateRequest request;
  EXPECT_EQ(Run("http://127.0.0.1:1/v1", request, collected).code(),
            absl::StatusCode::kInvalidArgument);
  request = Chat("\xff\xfe");
  Collected second;
  EXPECT_EQ(Run("http://127.0.0.1:1/v1", request, second).code(),
            absl::StatusCode::kInvalidArgument);
  request = Chat();
  request.mutable_chat()->set_tools_json("{");
  Collected third;
  EXPECT_EQ(Run("http://127.0.0.1:1/v1", request, third).code(),
            absl::StatusCode::kInvalidArgument);
  MakeClient();
  UpstreamEndpoint endpoint;
  endpoint.url = "http://127.0.0.1:1/v1";
  endpoint.api_key = "a\r\nX-Evil: 1";
  Collected fourth;
  client_->Generate(Chat(), endpoint, absl::InfiniteFuture(),
                    fourth.callbacks());
  EXPECT_EQ(fourth.status.code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace conclave::upstream
