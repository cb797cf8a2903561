#include "router_service/gateway/openai_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "router_service/gateway/json_parse.h"
#include "router_service/gateway/openai_error.h"

namespace conclave::gateway {
namespace {

using nlohmann::json;

json Chat() {
  return json::parse(R"({"messages":[{"role":"user","content":"hi"}]})");
}
json Plain() { return json::parse(R"({"prompt":"hi"})"); }

// "param|code" of the error, or "ok".
template <typename T>
std::string Verdict(const absl::StatusOr<T>& parsed) {
  if (parsed.ok()) return "ok";
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
  const ApiError error = ToApiError(parsed.status());
  EXPECT_FALSE(error.message.empty());
  return error.param + "|" + error.code;
}

std::string ChatWith(const char* field, json value) {
  json body = Chat();
  body[field] = std::move(value);
  return Verdict(ParseChatCompletion(body.dump()));
}

std::string PlainWith(const char* field, json value) {
  json body = Plain();
  body[field] = std::move(value);
  return Verdict(ParseCompletion(body.dump()));
}

std::string WithMessage(const char* message) {
  return Verdict(
      ParseChatCompletion(std::string(R"({"messages":[)") + message + "]}"));
}

TEST(OpenAiRequestTest, EveryFieldArrives) {
  const auto parsed = ParseChatCompletion(R"({
    "model": "coder", "stream": true, "stream_options": {"include_usage": true},
    "messages": [
      {"role": "developer", "content": "be brief", "name": "boss"},
      {"role": "user", "content": [{"type": "text", "text": "a"},
                                   {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": null, "refusal": null,
       "tool_calls": [{"id": "c1", "type": "function",
         "function": {"name": "f", "arguments": "{}"}}]},
      {"role": "tool", "tool_call_id": "c1", "content": "42"}],
    "tools": [{"type": "function", "function": {"name": "f",
      "parameters": {"type": "object"}}}], "tool_choice": "auto",
    "temperature": 0.5, "top_p": 0.75, "min_p": 0.125, "top_k": -1,
    "repetition_penalty": 1.5, "presence_penalty": -2, "frequency_penalty": 2,
    "logit_bias": {"7": -100, "8": 1.5}, "seed": -1, "stop": ["x", "y"],
    "max_completion_tokens": 9, "n": 2, "logprobs": true, "top_logprobs": 20,
    "ignore_eos": true, "user": "u", "metadata": {"a": "b"}, "store": null,
    "response_format": {"type": "text"}, "functions": null})");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_TRUE(parsed->chat);
  EXPECT_TRUE(parsed->stream);
  EXPECT_TRUE(parsed->include_usage);
  const v1::GenerateRequest& message = parsed->message;
  EXPECT_EQ(message.model(), "coder");
  ASSERT_EQ(message.chat().messages_size(), 4);
  EXPECT_EQ(message.chat().messages(0).role(), "system");
  EXPECT_EQ(message.chat().messages(0).name(), "boss");
  EXPECT_EQ(message.chat().messages(1).content(), "a\nb");
  EXPECT_THAT(message.chat().messages(2).tool_calls_json(),
              ::testing::HasSubstr("\"c1\""));
  EXPECT_EQ(message.chat().messages(3).tool_call_id(), "c1");
  EXPECT_THAT(message.chat().tools_json(), ::testing::StartsWith("[{"));
  const v1::SamplingParams& s = message.sampling();
  EXPECT_EQ(s.temperature(), 0.5f);
  EXPECT_EQ(s.top_p(), 0.75f);
  EXPECT_EQ(s.min_p(), 0.125f);
  EXPECT_EQ(s.top_k(), 0);
  EXPECT_EQ(s.repetition_penalty(), 1.5f);
  EXPECT_EQ(s.presence_penalty(), -2.0f);
  EXPECT_EQ(s.frequency_penalty(), 2.0f);
  EXPECT_EQ(s.logit_bias().at(7), -100.0f);
  EXPECT_EQ(s.logit_bias().at(8), 1.5f);
  EXPECT_EQ(s.seed(), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(s.stop_size(), 2);
  EXPECT_EQ(s.max_tokens(), 9);
  EXPECT_EQ(s.n(), 2);
  EXPECT_EQ(s.logprobs(), 20);
  EXPECT_TRUE(s.ignore_eos());
}

TEST(OpenAiRequestTest, AbsentMeansAbsent) {
  const auto chat = ParseChatCompletion(Chat().dump());
  ASSERT_TRUE(chat.ok());
  EXPECT_EQ(chat->message.model(), "auto");
  EXPECT_FALSE(chat->stream);
  const v1::SamplingParams& s = chat->message.sampling();
  EXPECT_FALSE(s.has_temperature() || s.has_seed() || s.has_max_tokens() ||
               s.has_logprobs() || s.has_n());
  const auto plain = ParseCompletion(Plain().dump());
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->message.sampling().max_tokens(), 16);
}

// One row for each bound: inside is taken, outside names the field.
TEST(OpenAiRequestTest, RangesAtTheirBounds) {
  struct Bound {
    const char* field;
    std::vector<json> good;
    std::vector<json> bad;
  };
  const Bound bounds[] = {
      {"temperature", {0, 2, 1.5}, {-0.01, 2.01, 1e308}},
      {"top_p", {0.001, 1}, {0, -1, 1.01, 1e-300}},
      {"min_p", {0, 1}, {-0.01, 1.01}},
      {"repetition_penalty", {0.5, 10}, {0, 10.5, 1e-300}},
      {"presence_penalty", {-2, 2}, {-2.1, 2.1}},
      {"frequency_penalty", {-2, 2}, {-2.1, 2.1}},
      {"top_k", {-1, 0, 40, 40.0}, {-2, 2147483648}},
      {"n", {1, 8}, {0, 9, -1}},
      {"seed", {0, -9223372036854775807, 18446744073709551615ull}, {1e300}},
      {"max_tokens",
       {1, 1000000000},
       {-1, 1000000001, 18446744073709551615ull}},
  };
  for (const Bound& bound : bounds) {
    for (const json& value : bound.good) {
      EXPECT_EQ(ChatWith(bound.field, value), "ok") << bound.field << value;
    }
    for (const json& value : bound.bad) {
      EXPECT_EQ(ChatWith(bound.field, value),
                std::string(bound.field) + "|invalid_value")
          << bound.field << value;
    }
    for (const json& value :
         {json("1"), json(true), json::array({1}), json::object()}) {
      EXPECT_EQ(ChatWith(bound.field, value),
                std::string(bound.field) + "|invalid_type")
          << bound.field << value;
    }
    EXPECT_EQ(ChatWith(bound.field, nullptr), "ok") << bound.field;
  }
  EXPECT_EQ(ChatWith("n", 1.5), "n|invalid_type");
  EXPECT_EQ(ChatWith("max_tokens", 0), "max_tokens|invalid_value");
  EXPECT_EQ(PlainWith("max_tokens", 0), "ok");
  EXPECT_EQ(PlainWith("logprobs", 20), "ok");
  EXPECT_EQ(PlainWith("logprobs", 21), "logprobs|invalid_value");
  EXPECT_EQ(PlainWith("logprobs", true), "logprobs|invalid_type");
  EXPECT_EQ(ChatWith("logprobs", 1), "logprobs|invalid_type");
  EXPECT_EQ(ChatWith("top_logprobs", 1), "top_logprobs|invalid_value");
}

TEST(OpenAiRequestTest, StopAndBias) {
  EXPECT_EQ(ChatWith("stop", "x"), "ok");
  EXPECT_EQ(ChatWith("stop", json::array()), "ok");
  EXPECT_EQ(ChatWith("stop", std::string(256, 'x')), "ok");
  EXPECT_EQ(ChatWith("stop", std::string(257, 'x')), "stop|invalid_value");
  EXPECT_EQ(ChatWith("stop", ""), "stop|invalid_value");
  EXPECT_EQ(ChatWith("stop", {"a", 1}), "stop[1]|invalid_type");
  EXPECT_EQ(ChatWith("stop", json(std::vector<std::string>(17, "x"))),
            "stop|invalid_value");
  EXPECT_EQ(ChatWith("logit_bias", {{"x", 1}}), "logit_bias|invalid_value");
  EXPECT_EQ(ChatWith("logit_bias", {{"-1", 1}}), "logit_bias|invalid_value");
  EXPECT_EQ(ChatWith("logit_bias", {{"1", 101}}), "logit_bias|invalid_value");
  EXPECT_EQ(ChatWith("logit_bias", {{"1", "2"}}), "logit_bias|invalid_type");
  EXPECT_EQ(ChatWith("logit_bias", 3), "logit_bias|invalid_type");
}

TEST(OpenAiRequestTest, MessagesAreChecked) {
  EXPECT_EQ(Verdict(ParseChatCompletion("{}")), "messages|missing_field");
  EXPECT_EQ(ChatWith("messages", json::array()), "messages|invalid_value");
  EXPECT_EQ(ChatWith("messages", "hi"), "messages|invalid_type");
  EXPECT_EQ(WithMessage("3"), "messages[0]|invalid_type");
  EXPECT_EQ(WithMessage(R"({"content":"x"})"),
            "messages[0].role|invalid_value");
  EXPECT_EQ(WithMessage(R"({"role":"wizard","content":"x"})"),
            "messages[0].role|invalid_value");
  EXPECT_EQ(WithMessage(R"({"role":"user"})"),
            "messages[0].content|missing_field");
  EXPECT_EQ(WithMessage(R"({"role":"user","content":7})"),
            "messages[0].content|invalid_type");
  EXPECT_EQ(WithMessage(R"({"role":"user","content":[{"type":"image_url",
                            "image_url":{"url":"http://x"}}]})"),
            "messages[0].content[0].type|unsupported_value");
  EXPECT_EQ(WithMessage(R"({"role":"user","content":[{"type":"text"}]})"),
            "messages[0].content[0].text|invalid_type");
  EXPECT_EQ(WithMessage(R"({"role":"user","content":"x","colour":"red"})"),
            "messages[0].colour|unknown_field");
  EXPECT_EQ(WithMessage(R"({"role":"tool","content":"x"})"),
            "messages[0].tool_call_id|invalid_value");
  EXPECT_EQ(WithMessage(R"({"role":"user","content":"x","tool_calls":[]})"),
            "messages[0].tool_calls|invalid_value");
  EXPECT_EQ(WithMessage(R"({"role":"assistant","tool_calls":[{"type":
                            "function","function":{"name":"f"}}]})"),
            "messages[0].tool_calls[0].function.arguments|invalid_type");
}

TEST(OpenAiRequestTest, ToolsAreCheckedAndForcingIsRefused) {
  const json tool = json::parse(
      R"({"type":"function","function":{"name":"f","description":"d"}})");
  EXPECT_EQ(ChatWith("tools", json::array({tool})), "ok");
  EXPECT_EQ(ChatWith("tools", json::object()), "tools|invalid_type");
  EXPECT_EQ(ChatWith("tools", json(std::vector<json>(129, tool))),
            "tools|invalid_value");
  EXPECT_EQ(ChatWith("tools", json::array({{{"type", "web"}}})),
            "tools[0].type|unsupported_value");
  EXPECT_EQ(ChatWith("tool_choice", "required"),
            "tool_choice|unsupported_value");
  json body = Chat();
  body["tools"] = json::array({tool});
  body["tool_choice"] = "none";
  EXPECT_EQ(ParseChatCompletion(body.dump())->message.chat().tools_json(), "");
}

TEST(OpenAiRequestTest, WhatIsNotImplementedIsRefused) {
  EXPECT_EQ(ChatWith("response_format", {{"type", "json_object"}}),
            "response_format|unsupported_value");
  for (const char* field : {"functions", "function_call", "audio",
                            "guided_json", "reasoning_effort"}) {
    EXPECT_EQ(ChatWith(field, "x"), std::string(field) + "|unsupported_value");
  }
  EXPECT_EQ(PlainWith("suffix", "x"), "suffix|unsupported_value");
  EXPECT_EQ(PlainWith("best_of", 2), "best_of|unsupported_value");
  EXPECT_EQ(PlainWith("best_of", 1), "ok");
  EXPECT_EQ(PlainWith("messages", json::array()), "messages|unknown_field");
  EXPECT_EQ(ChatWith("stream_options", {{"include_usage", true}}),
            "stream_options|invalid_value");
  const auto typo = ParseChatCompletion(
      R"({"messages":[{"role":"user","content":"x"}],"temprature":1})");
  EXPECT_THAT(std::string(Message(typo.status())),
              ::testing::HasSubstr("Did you mean: temperature"));
}

TEST(OpenAiRequestTest, Prompts) {
  EXPECT_EQ(ParseCompletion(R"({"prompt":["one"]})")->message.text(), "one");
  EXPECT_EQ(ParseCompletion(R"({"prompt":[1,2]})")->message.tokens().ids(1), 2);
  EXPECT_EQ(ParseCompletion(R"({"prompt":[[3]]})")->message.tokens().ids(0), 3);
  EXPECT_EQ(Verdict(ParseCompletion("{}")), "prompt|missing_field");
  EXPECT_EQ(PlainWith("prompt", ""), "prompt|invalid_value");
  EXPECT_EQ(PlainWith("prompt", json::array()), "prompt|invalid_value");
  EXPECT_EQ(PlainWith("prompt", {{}}), "prompt|invalid_type");
  EXPECT_EQ(PlainWith("prompt", {"a", "b"}), "prompt|unsupported_value");
  EXPECT_EQ(PlainWith("prompt", {1, -1}), "prompt[1]|invalid_value");
  EXPECT_EQ(PlainWith("prompt", {1, 2147483648}), "prompt[1]|invalid_value");
  EXPECT_EQ(PlainWith("prompt", {1, "a"}), "prompt[1]|invalid_type");
  EXPECT_EQ(PlainWith("prompt", 3), "prompt|invalid_type");
}

TEST(OpenAiRequestTest, EmbeddingsRouteAndFeedback) {
  const auto one = ParseEmbeddings(
      R"({"model":"m","input":"x","encoding_format":"base64"})");
  ASSERT_TRUE(one.ok());
  EXPECT_TRUE(one->base64);
  EXPECT_EQ(one->message.inputs(0), "x");
  EXPECT_EQ(Verdict(ParseEmbeddings(R"({"input":["a",""]})")),
            "input[1]|invalid_value");
  EXPECT_EQ(Verdict(ParseEmbeddings(R"({"input":[]})")), "input|invalid_value");
  EXPECT_EQ(Verdict(ParseEmbeddings(R"({"input":[1]})")),
            "input[0]|invalid_type");
  EXPECT_EQ(Verdict(ParseEmbeddings(R"({"input":"a","dimensions":4})")),
            "dimensions|unsupported_value");
  EXPECT_EQ(Verdict(ParseEmbeddings(
                json{{"input", std::vector<std::string>(257, "a")}}.dump())),
            "input|invalid_value");
  const auto route = ParseRoute(Chat().dump());
  ASSERT_TRUE(route.ok());
  EXPECT_EQ(route->chat().messages(0).content(), "hi");
  EXPECT_EQ(Verdict(ParseFeedback(R"({"request_id":"a","score":1})")), "ok");
  EXPECT_EQ(Verdict(ParseFeedback(R"({"score":1})")),
            "request_id|missing_field");
  EXPECT_EQ(Verdict(ParseFeedback(R"({"request_id":"a"})")),
            "score|missing_field");
  EXPECT_EQ(Verdict(ParseFeedback(R"({"request_id":"a/b","score":1})")),
            "request_id|invalid_value");
}

TEST(JsonParseTest, Limits) {
  const auto nested = [](int depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_TRUE(ParseJson(nested(64)).ok());
  EXPECT_EQ(Verdict(ParseJson(nested(65))), "|json_too_deep");
  EXPECT_EQ(Verdict(ParseJson(std::string(100'000, '['))), "|json_too_deep");
  EXPECT_EQ(Verdict(ParseJson("[1,2,3,4]", {.max_depth = 4, .max_values = 4})),
            "|json_too_large");
  EXPECT_EQ(Verdict(ParseJson(R"({"a":1,"a":2})")), "|duplicate_field");
  for (const char* bad :
       {"", "{", "nul", "{\"a\":}", "1 2", "\"\\ud800\"", "\"\xff\"", "1e999",
        "{'a':1}", "[1,]", "NaN", "// x\n1"}) {
    EXPECT_EQ(Verdict(ParseJson(bad)), "|invalid_json") << bad;
  }
}

// What the fuzzer found worth keeping never crashes again, and is always
// either taken or refused with a reason.
TEST(OpenAiRequestTest, FuzzCorpus) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(
           "tests/fuzz/corpus/openai_request")) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    Verdict(ParseChatCompletion(text));
    Verdict(ParseCompletion(text));
    Verdict(ParseEmbeddings(text));
    Verdict(ParseRoute(text));
    Verdict(ParseFeedback(text));
    ++files;
  }
  EXPECT_GE(files, 10);
}

}  // namespace
}  // namespace conclave::gateway
