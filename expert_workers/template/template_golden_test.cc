// Prompts against jinja2: every template of tests/golden/templates/ with every
// conversation, and one-line templates for single constructs.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "expert_workers/template/chat_template.h"

namespace conclave::engine {
namespace {

using Json = nlohmann::ordered_json;

std::string ReadText(const std::string& name) {
  std::ifstream in("tests/golden/templates/" + name);
  std::ostringstream text;
  text << in.rdbuf();
  return std::move(text).str();
}

// make_golden.py's clock.
absl::Time Now() {
  return absl::FromCivil(absl::CivilSecond(2024, 7, 26, 12, 0, 0),
                         absl::UTCTimeZone());
}

ChatInput InputOf(const Json& conversation) {
  ChatInput input;
  input.messages = conversation["messages"];
  input.tools = conversation.value("tools", Json());
  input.variables = conversation.value("variables", Json());
  input.add_generation_prompt =
      conversation.value("add_generation_prompt", true);
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.now = Now();
  return input;
}

std::string KindOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
      return "raised";
    case absl::StatusCode::kFailedPrecondition:
      return "error";
    default:
      return std::string(CodeName(status.code()));
  }
}

void ExpectOutcome(const ChatTemplate& chat_template, const ChatInput& input,
                   const Json& want) {
  const auto pieces = chat_template.Render(input);
  if (pieces.ok()) {
    ASSERT_TRUE(want.contains("text"))
        << "jinja2: " << want["message"] << "\nhere: " << JoinPieces(*pieces);
    EXPECT_EQ(JoinPieces(*pieces), want["text"].get<std::string>());
    return;
  }
  ASSERT_TRUE(want.contains("kind"))
      << pieces.status() << "\njinja2: " << want["text"];
  EXPECT_EQ(KindOf(pieces.status()), want["kind"].get<std::string>())
      << pieces.status() << "\njinja2: " << want["message"];
  if (want["kind"] == "raised") {
    EXPECT_EQ(Message(pieces.status()), want["message"].get<std::string>());
  }
}

TEST(TemplateGoldenTest, EveryFamilyAndConversation) {
  const Json conversations = Json::parse(ReadText("conversations.json"));
  const Json golden = Json::parse(ReadText("golden.json"));
  ASSERT_GE(golden.size(), 9u);
  ASSERT_GE(conversations.size(), 12u);
  for (const auto& [name, outcomes] : golden.items()) {
    const auto chat_template = ChatTemplate::Parse(ReadText(name + ".jinja"));
    ASSERT_TRUE(chat_template.ok()) << name << ": " << chat_template.status();
    ASSERT_EQ(outcomes.size(), conversations.size());
    for (const auto& [conversation, want] : outcomes.items()) {
      SCOPED_TRACE(name + " / " + conversation);
      ExpectOutcome(**chat_template, InputOf(conversations[conversation]),
                    want);
    }
  }
}

TEST(TemplateGoldenTest, Expressions) {
  const Json golden = Json::parse(ReadText("expressions.json"));
  ChatInput input = InputOf(golden);
  ASSERT_GE(golden["results"].size(), 100u);
  for (const Json& want : golden["results"]) {
    const auto source = want["source"].get<std::string>();
    SCOPED_TRACE(source);
    const auto chat_template = ChatTemplate::Parse(source);
    // Jinja looks filters and tests up while it compiles, we when they run.
    if (!chat_template.ok() || want.value("kind", "") == "syntax") {
      const bool late =
          chat_template.ok() && !(*chat_template)->Render(input).ok();
      EXPECT_TRUE(!chat_template.ok() || late) << "jinja2: " << want;
      EXPECT_EQ(want.value("kind", "none"), "syntax") << chat_template.status();
      continue;
    }
    ExpectOutcome(**chat_template, input, want);
  }
}

}  // namespace
}  // namespace conclave::engine
