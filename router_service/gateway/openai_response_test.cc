#include "router_service/gateway/openai_response.h"

#include <absl/strings/escaping.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "router_service/gateway/decision_json.h"

namespace conclave::gateway {
namespace {

using nlohmann::json;

v1::GenerateEvent Started(const std::string& prompt = "") {
  v1::GenerateEvent event;
  event.mutable_started()->set_expert("coder");
  event.mutable_started()->set_model("0123456789abcdef0123");
  event.mutable_started()->set_prompt_text(prompt);
  return event;
}

v1::GenerateEvent Delta(int index, const std::string& text) {
  v1::GenerateEvent event;
  event.mutable_delta()->set_index(index);
  event.mutable_delta()->set_text(text);
  return event;
}

void AddLogprob(const std::string& bytes, float logprob,
                google::protobuf::RepeatedPtrField<v1::TokenLogprob>* out) {
  v1::TokenLogprob& token = *out->Add();
  token.set_text(bytes);
  token.set_logprob(logprob);
  v1::TokenLogprob& top = *token.add_top();
  top.set_text("best");
  top.set_logprob(-0.25f);
}

v1::GenerateEvent Finished(int index, const std::string& reason) {
  v1::GenerateEvent event;
  event.mutable_finished()->set_index(index);
  event.mutable_finished()->set_reason(reason);
  return event;
}

v1::GenerateEvent Usage() {
  v1::GenerateEvent event;
  event.mutable_usage()->set_prompt_tokens(3);
  event.mutable_usage()->set_completion_tokens(2);
  event.mutable_usage()->set_cached_tokens(1);
  return event;
}

AnswerFormat Format(bool chat) {
  AnswerFormat format;
  format.chat = chat;
  format.created_unix_s = 1700000000;
  format.request_id = "r1";
  return format;
}

json Body(AnswerFormat format, const std::vector<v1::GenerateEvent>& events) {
  AnswerBody body(std::move(format));
  for (const auto& event : events) body.OnEvent(event);
  const auto text = body.End();
  EXPECT_TRUE(text.ok()) << text.status();
  return json::parse(*text);
}

// The JSON of each event; [DONE] is left out.
std::vector<json> Stream(AnswerFormat format,
                         const std::vector<v1::GenerateEvent>& events) {
  AnswerStream stream(std::move(format));
  std::string text;
  for (const auto& event : events) text += stream.OnEvent(event);
  text += *stream.End();
  std::vector<json> chunks;
  size_t at = 0;
  while (at < text.size()) {
    EXPECT_EQ(text.compare(at, 6, "data: "), 0);
    const size_t end = text.find("\n\n", at);
    const std::string data = text.substr(at + 6, end - at - 6);
    at = end + 2;
    if (data == "[DONE]") {
      EXPECT_EQ(at, text.size()) << "[DONE] is last";
      return chunks;
    }
    chunks.push_back(json::parse(data));
  }
  ADD_FAILURE() << "no [DONE]";
  return chunks;
}

TEST(OpenAiResponseTest, ChatBody) {
  const json body = Body(
      Format(true),
      {Started(), Delta(0, "he"), Delta(0, "y"), Finished(0, "stop"), Usage()});
  EXPECT_EQ(body, json::parse(R"({"id":"chatcmpl-r1","object":
    "chat.completion","created":1700000000,"model":"coder",
    "system_fingerprint":"fp_0123456789abcdef","choices":[{"index":0,
    "message":{"role":"assistant","content":"hey","refusal":null},
    "logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":3,
    "completion_tokens":2,"total_tokens":5,
    "prompt_tokens_details":{"cached_tokens":1}}})"));
}

TEST(OpenAiResponseTest, ChatStreamHasRoleFirstAndUsageOnce) {
  AnswerFormat format = Format(true);
  format.include_usage = true;
  format.n = 2;
  const auto chunks =
      Stream(format, {Started(), Delta(0, "a"), Delta(1, "b"), Delta(0, ""),
                      Finished(1, "stop"), Finished(0, "length"), Usage()});
  ASSERT_EQ(chunks.size(), 7u);  // Two roles, two texts, two ends, usage.
  for (int i : {0, 1}) {
    EXPECT_EQ(chunks[i]["choices"][0]["index"], i);
    EXPECT_EQ(chunks[i]["choices"][0]["delta"]["role"], "assistant");
    EXPECT_TRUE(chunks[i]["usage"].is_null());
  }
  EXPECT_EQ(chunks[2]["object"], "chat.completion.chunk");
  EXPECT_EQ(chunks[2]["choices"][0]["delta"], json({{"content", "a"}}));
  EXPECT_EQ(chunks[4]["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(chunks[4]["choices"][0]["delta"], json::object());
  EXPECT_TRUE(chunks[6]["choices"].empty());
  EXPECT_EQ(chunks[6]["usage"]["total_tokens"], 5);
}

TEST(OpenAiResponseTest, NoUsageUnlessAskedFor) {
  for (const json& chunk :
       Stream(Format(true), {Started(), Finished(0, "stop"), Usage()})) {
    EXPECT_FALSE(chunk.contains("usage"));
  }
}

TEST(OpenAiResponseTest, IncompleteStreamsAreErrors) {
  for (const auto& events : {std::vector{Started(), Finished(0, "stop")},
                             std::vector{Started(), Delta(0, "x"), Usage()}}) {
    AnswerBody body(Format(true));
    AnswerStream stream(Format(true));
    for (const auto& event : events) {
      body.OnEvent(event);
      stream.OnEvent(event);
    }
    EXPECT_EQ(body.End().status().code(), absl::StatusCode::kInternal);
    EXPECT_EQ(stream.End().status().code(), absl::StatusCode::kInternal);
  }
}

TEST(OpenAiResponseTest, IndexOutOfRangeIsIgnored) {
  const json body =
      Body(Format(false), {Started(), Delta(7, "x"), Delta(-1, "x"),
                           Finished(9, "stop"), Finished(0, "stop"), Usage()});
  EXPECT_EQ(body["choices"].size(), 1u);
  EXPECT_EQ(body["choices"][0]["text"], "");
}

TEST(OpenAiResponseTest, ChatLogprobsShowBytes) {
  AnswerFormat format = Format(true);
  format.logprobs = 1;
  v1::GenerateEvent delta = Delta(0, "x");
  AddLogprob("\xe2\x82", -1.5f, delta.mutable_delta()->mutable_logprobs());
  const json body =
      Body(format, {Started(), delta, Finished(0, "stop"), Usage()});
  EXPECT_EQ(body["choices"][0]["logprobs"]["content"][0],
            json::parse(R"({"token":"bytes:\\xe2\\x82","logprob":-1.5,
      "bytes":[226,130],"top_logprobs":[{"token":"best","logprob":-0.25,
      "bytes":[98,101,115,116]}]})"));
}

TEST(OpenAiResponseTest, EchoWithLogprobsAndOffsetsInCharacters) {
  AnswerFormat format = Format(false);
  format.logprobs = 1;
  format.echo = true;
  v1::GenerateEvent started = Started("\xc3\xa9z");
  auto* prompt = started.mutable_started()->mutable_prompt_logprobs();
  AddLogprob("\xc3\xa9", 0.0f, prompt);
  AddLogprob("z", -INFINITY, prompt);
  v1::GenerateEvent delta = Delta(0, "!");
  AddLogprob("!", -0.5f, delta.mutable_delta()->mutable_logprobs());
  const std::vector<v1::GenerateEvent> events = {
      started, delta, Finished(0, "length"), Usage()};
  const json want = json::parse(R"({"tokens":["é","z","!"],
    "token_logprobs":[null,-9999.0,-0.5],
    "top_logprobs":[null,{"best":-0.25,"z":-9999.0},{"best":-0.25,"!":-0.5}],
    "text_offset":[0,1,2]})");
  const json choice = Body(format, events)["choices"][0];
  EXPECT_EQ(choice["text"], "\xc3\xa9z!");
  EXPECT_EQ(choice["logprobs"], want);
  // The stream says the same, piece by piece.
  std::string text;
  json joined = {{"tokens", json::array()},
                 {"token_logprobs", json::array()},
                 {"top_logprobs", json::array()},
                 {"text_offset", json::array()}};
  for (const json& chunk : Stream(format, events)) {
    text += chunk["choices"][0]["text"].get<std::string>();
    const json& logprobs = chunk["choices"][0]["logprobs"];
    if (logprobs.is_null()) continue;
    for (auto& [key, list] : joined.items()) {
      for (const json& value : logprobs[key]) list.push_back(value);
    }
  }
  EXPECT_EQ(text, "\xc3\xa9z!");
  EXPECT_EQ(joined, want);
}

TEST(OpenAiResponseTest, ToolCallsArePassedOnAndMerged) {
  v1::GenerateEvent one = Delta(0, "");
  one.mutable_delta()->set_tool_calls_json(
      R"([{"index":0,"id":"c1","type":"function",
           "function":{"name":"f","arguments":"{\"a\""}}])");
  v1::GenerateEvent two = Delta(0, "");
  two.mutable_delta()->set_tool_calls_json(
      R"([{"index":0,"function":{"arguments":":1}"}},
          {"index":1,"id":"c2","function":{"name":"g","arguments":"{}"}},
          {"index":99999999,"id":"no"}, 7, {"index":"x"}])");
  v1::GenerateEvent nonsense = Delta(0, "");
  nonsense.mutable_delta()->set_tool_calls_json("{not json");
  const std::vector<v1::GenerateEvent> events = {
      Started(), one, two, nonsense, Finished(0, "tool_calls"), Usage()};
  const json message = Body(Format(true), events)["choices"][0]["message"];
  EXPECT_TRUE(message["content"].is_null());
  EXPECT_EQ(message["tool_calls"], json::parse(R"([
    {"id":"c1","type":"function","function":{"name":"f",
     "arguments":"{\"a\":1}"}},
    {"id":"c2","type":"function","function":{"name":"g","arguments":"{}"}}])"));
  EXPECT_EQ(Stream(Format(true),
                   events)[1]["choices"][0]["delta"]["tool_calls"][0]["id"],
            "c1");
}

TEST(OpenAiResponseTest, EmbeddingsAsNumbersAndAsBase64) {
  v1::EmbedResponse response;
  response.set_model("enc");
  response.set_prompt_tokens(4);
  response.add_embeddings()->add_values(0.5f);
  response.mutable_embeddings(0)->add_values(-2.0f);
  const json plain = json::parse(EmbeddingsBody(response, false));
  EXPECT_EQ(plain["data"][0]["embedding"], json({0.5, -2.0}));
  EXPECT_EQ(plain["usage"]["total_tokens"], 4);
  const json coded = json::parse(EmbeddingsBody(response, true));
  std::string bytes;
  ASSERT_TRUE(absl::Base64Unescape(
      coded["data"][0]["embedding"].get<std::string>(), &bytes));
  const float want[] = {0.5f, -2.0f};
  ASSERT_EQ(bytes.size(), sizeof(want));
  EXPECT_EQ(std::memcmp(bytes.data(), want, sizeof(want)), 0);
}

TEST(LogprobsJsonTest, Utf8) {
  for (const char* good :
       {"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"}) {
    EXPECT_TRUE(IsUtf8(good)) << good;
  }
  for (const char* bad :
       {"\xc3", "\xa9", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
        "\xf4\x90\x80\x80", "\xff", "\xf0\x9f\x98"}) {
    EXPECT_FALSE(IsUtf8(bad));
  }
}

TEST(DecisionJsonTest, OutcomeAndFeedbackFollowTheDecision) {
  v1::ExplainResponse response;
  response.mutable_decision()->set_expert("coder");
  response.mutable_outcome()->set_status("OK");
  response.mutable_outcome()->add_attempts("chat: UNAVAILABLE down");
  response.add_feedback()->set_score(1);
  const auto shown = ExplainJson(response);
  EXPECT_EQ(shown["expert"], "coder");
  EXPECT_EQ(shown["outcome"]["attempts"][0], "chat: UNAVAILABLE down");
  EXPECT_EQ(shown["feedback"][0]["score"], 1.0);
  EXPECT_TRUE(shown["posterior"].is_object());
  EXPECT_TRUE(shown["candidates"].is_array());
}

}  // namespace
}  // namespace conclave::gateway
