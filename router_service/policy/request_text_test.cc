#include "router_service/policy/request_text.h"

#include <gtest/gtest.h>

#include <random>

namespace conclave::router {
namespace {

v1::ChatPrompt Chat(
    const std::vector<std::pair<std::string, std::string>>& messages) {
  v1::ChatPrompt chat;
  for (const auto& [role, content] : messages) {
    auto* message = chat.add_messages();
    message->set_role(role);
    message->set_content(content);
  }
  return chat;
}

TEST(PartsOfChatTest, AShortQuestionLeansOnWhatCameBefore) {
  const v1::ChatPrompt chat = Chat({{"system", "You write SQL."},
                                    {"user", "reverse a list in go"},
                                    {"assistant", "func ..."},
                                    {"user", "and in rust?"}});
  const auto parts = PartsOfChat(chat);
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].text, "and in rust?");
  EXPECT_EQ(parts[0].weight, 1);
  EXPECT_EQ(parts[1].text, "reverse a list in go");
  EXPECT_NEAR(parts[1].weight, 0.5 * 13 / 16, 1e-9);
  EXPECT_EQ(parts[2].text, "You write SQL.");
  EXPECT_NEAR(parts[2].weight, 0.2 * 13 / 16, 1e-9);
}

TEST(PartsOfChatTest, ALongQuestionStandsAlone) {
  std::string question;
  for (int i = 0; i < 20; ++i) question += "word ";
  const v1::ChatPrompt chat =
      Chat({{"system", "s"}, {"user", "before"}, {"user", question}});
  ASSERT_EQ(PartsOfChat(chat).size(), 1u);
}

TEST(PartsOfChatTest, WithoutAUserMessageTheLastTextCounts) {
  const v1::ChatPrompt chat =
      Chat({{"system", "first"}, {"tool", "second"}, {"assistant", "  "}});
  const auto parts = PartsOfChat(chat);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0].text, "second");
}

TEST(PartsOfChatTest, NothingVisibleNoParts) {
  EXPECT_TRUE(PartsOfChat(v1::ChatPrompt()).empty());
  EXPECT_TRUE(PartsOfChat(Chat({{"user", " \n"}})).empty());
  EXPECT_TRUE(PartsOfText("\t \x01").empty());
  EXPECT_EQ(PartsOfText(" x ").size(), 1u);
}

TEST(EndsOfTextTest, KeepsBothEndsAndWholeCharacters) {
  EXPECT_EQ(EndsOfText("short", 10), "short");
  EXPECT_EQ(EndsOfText("abcdefghij", 4), "ab ... ij");
  std::string euros;
  for (int i = 0; i < 100; ++i) euros += "€";
  for (size_t limit = 2; limit < 40; ++limit) {
    const std::string ends = EndsOfText(euros, limit);
    EXPECT_LE(ends.size(), limit + 5);
    for (size_t i = 0; i < ends.size();) {
      const bool euro = ends.substr(i, 3) == "€";
      ASSERT_TRUE(euro || ends[i] == ' ' || ends[i] == '.') << ends;
      i += euro ? 3 : 1;
    }
  }
  const std::string hostile(5000, '\x80');
  EXPECT_LE(EndsOfText(hostile, 100).size(), 110u);
}

}  // namespace
}  // namespace conclave::router
