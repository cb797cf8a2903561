#include "expert_workers/frontend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace conclave::workers {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int32_t kBos = 256;
constexpr int32_t kStart = 257;
constexpr int32_t kEnd = 258;

// Byte-level BPE without merges: a token for each byte, then three controls.
weights::TokenizerSpec Bytes() {
  weights::TokenizerSpec spec;
  spec.pre = "gpt2";
  int other = 0;
  for (int b = 0; b < 256; ++b) {
    // GPT-2's mapping of bytes to printable characters.
    const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) ||
                           (b >= 0xAE && b <= 0xFF);
    const int point = printable ? b : 256 + other++;
    std::string text;
    if (point < 0x80) {
      text += static_cast<char>(point);
    } else {
      text += static_cast<char>(0xC0 | point >> 6);
      text += static_cast<char>(0x80 | (point & 0x3F));
    }
    spec.tokens.push_back(text);
    spec.types.push_back(weights::TokenType::kNormal);
  }
  for (const char* control : {"<s>", "<|im_start|>", "<|im_end|>"}) {
    spec.tokens.push_back(control);
    spec.types.push_back(weights::TokenType::kControl);
  }
  spec.bos_id = kBos;
  spec.eos_id = kEnd;
  spec.add_bos = true;
  return spec;
}

std::unique_ptr<Frontend> Make(const std::string& chat_template,
                               bool add_bos = true) {
  auto manifest = std::make_shared<weights::ModelManifest>();
  manifest->version = "v";
  manifest->spec.tokenizer = Bytes();
  manifest->spec.tokenizer.add_bos = add_bos;
  manifest->spec.hyperparameters.vocab_size = 259;
  manifest->spec.chat_template = chat_template;
  auto frontend = Frontend::Create(manifest);
  EXPECT_TRUE(frontend.ok()) << frontend.status();
  return std::move(frontend).value();
}

v1::WorkerGenerateRequest Chat(const std::string& content) {
  v1::WorkerGenerateRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(content);
  return request;
}

constexpr char kPlain[] =
    "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>"
    "{% endfor %}";
constexpr char kWithBos[] =
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.content }}"
    "<|im_end|>{% endfor %}";

TEST(FrontendTest, BosStandsOnce) {
  for (const char* source : {kPlain, kWithBos}) {
    const auto prompt = Make(source)->Build(Chat("a"));
    ASSERT_TRUE(prompt.ok()) << prompt.status();
    EXPECT_THAT(prompt->tokens, ElementsAre(kBos, kStart, 'a', kEnd));
  }
  EXPECT_THAT(Make(kPlain, false)->Build(Chat("a"))->tokens,
              ElementsAre(kStart, 'a', kEnd));
  v1::WorkerGenerateRequest text;
  text.set_text("ab");
  EXPECT_THAT(Make(kPlain)->Build(text)->tokens, ElementsAre(kBos, 'a', 'b'));
}

TEST(FrontendTest, UserTextNeverBecomesControl) {
  for (const char* typed : {"<s>", "<|im_end|>", "<|im_start|>"}) {
    auto request = Chat(typed);
    request.mutable_sampling()->set_echo(true);
    const auto prompt = Make(kWithBos)->Build(request);
    ASSERT_TRUE(prompt.ok()) << prompt.status();
    EXPECT_EQ(std::count_if(prompt->tokens.begin(), prompt->tokens.end(),
                            [](int32_t id) { return id >= 256; }),
              3)
        << typed;
    EXPECT_EQ(prompt->text, typed);
    v1::WorkerGenerateRequest text;
    text.set_text(typed);
    const auto plain = Make(kPlain)->Build(text);
    ASSERT_TRUE(plain.ok()) << plain.status();
    EXPECT_EQ(plain->tokens.size(), std::string(typed).size() + 1);
  }
}

TEST(FrontendTest, ToolsAndCallsReachTheTemplate) {
  auto request = Chat("x");
  request.mutable_chat()->set_tools_json(R"([{"name": "t"}])");
  v1::ChatMessage* call = request.mutable_chat()->add_messages();
  call->set_role("assistant");
  call->set_tool_calls_json(
      R"([{"function": {"name": "f", "arguments": "{\"q\": 7}"}}])");
  request.mutable_sampling()->set_echo(true);
  const auto prompt =
      Make(
          "{{ tools[0].name }}{% for m in messages %}{% if m.tool_calls %}"
          "{{ m.tool_calls[0].function.arguments.q }}{% endif %}{% endfor %}")
          ->Build(request);
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_EQ(prompt->text, "t7");
}

TEST(FrontendTest, BadPromptsAreRefused) {
  const auto frontend = Make(kPlain);
  const auto refused = [&](const v1::WorkerGenerateRequest& request,
                           const std::string& why) {
    const auto prompt = frontend->Build(request);
    EXPECT_EQ(prompt.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(Message(prompt.status())), HasSubstr(why));
  };
  v1::WorkerGenerateRequest request;
  refused(request, "empty");
  request.mutable_chat();
  refused(request, "messages");
  for (const int32_t id : {-1, 259, INT32_MAX}) {
    request.mutable_tokens()->clear_ids();
    request.mutable_tokens()->add_ids(id);
    refused(request, "prompt token 0");
  }
  request = Chat("x");
  for (const std::string& json :
       {std::string("{}"), std::string("[1,"), std::string(5000, '['),
        "[" + std::string(2 << 20, ' ') + "]"}) {
    request.mutable_chat()->set_tools_json(json);
    refused(request, "tools");
  }
  const auto picky = Make("{{ raise_exception('no system role') }}");
  const auto prompt = picky->Build(Chat("x"));
  EXPECT_EQ(prompt.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(Message(prompt.status())),
              HasSubstr("no system role"));
}

TEST(FrontendTest, ABrokenModelIsNamed) {
  auto manifest = std::make_shared<weights::ModelManifest>();
  manifest->version = "abc";
  manifest->spec.tokenizer = Bytes();
  manifest->spec.chat_template = "{% if %}";
  const auto frontend = Frontend::Create(manifest);
  EXPECT_FALSE(frontend.ok());
  EXPECT_THAT(std::string(Message(frontend.status())), HasSubstr("abc"));
}

}  // namespace
}  // namespace conclave::workers
