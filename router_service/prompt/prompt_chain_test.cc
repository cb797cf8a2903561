#include "router_service/prompt/prompt_chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace conclave::router {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Links = std::map<std::string, PromptLink, std::less<>>;

LinkLookup In(const Links& links) {
  return [&links](std::string_view name) -> std::optional<PromptLink> {
    const auto found = links.find(name);
    if (found == links.end()) return std::nullopt;
    return found->second;
  };
}

const Links kLinks = {{"chat", {}},
                      {"pirate", {"chat", "Speak as a pirate."}},
                      {"captain", {"pirate", "You command the ship."}},
                      {"quiet", {"captain", ""}},
                      {"loop-a", {"loop-b", "a"}},
                      {"loop-b", {"loop-a", "b"}},
                      {"orphan", {"gone", "x"}}};

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

TEST(PromptChainTest, PlainExpertChangesNothing) {
  const auto chain = ResolvePromptChain("chat", In(kLinks));
  ASSERT_TRUE(chain.ok());
  EXPECT_EQ(chain->answers, "chat");
  const v1::ChatPrompt chat = Chat({{"user", "hi"}});
  EXPECT_EQ(WrapChat(*chain, chat).SerializeAsString(),
            chat.SerializeAsString());
  EXPECT_EQ(WrapText(*chain, "hi"), "hi");
}

TEST(PromptChainTest, PromptsStandFromTheBaseOutwards) {
  const auto chain = ResolvePromptChain("captain", In(kLinks));
  ASSERT_TRUE(chain.ok());
  EXPECT_EQ(chain->answers, "chat");
  EXPECT_THAT(chain->experts, ElementsAre("captain", "pirate", "chat"));
  const v1::ChatPrompt wrapped = WrapChat(
      *chain,
      Chat({{"system", "Be brief."}, {"user", "hi"}, {"system", "Later."}}));
  ASSERT_EQ(wrapped.messages_size(), 3);
  EXPECT_EQ(wrapped.messages(0).role(), "system");
  EXPECT_EQ(wrapped.messages(0).content(),
            "Speak as a pirate.\n\nYou command the ship.\n\nBe brief.");
  EXPECT_EQ(wrapped.messages(1).content(), "hi");
  EXPECT_EQ(wrapped.messages(2).content(), "Later.");
  EXPECT_EQ(WrapText(*chain, "hi"),
            "Speak as a pirate.\n\nYou command the ship.\n\nhi");
}

TEST(PromptChainTest, KeepsTools) {
  const auto chain = ResolvePromptChain("pirate", In(kLinks));
  ASSERT_TRUE(chain.ok());
  v1::ChatPrompt chat = Chat({{"user", "hi"}});
  chat.set_tools_json("[{}]");
  EXPECT_EQ(WrapChat(*chain, chat).tools_json(), "[{}]");
}

TEST(PromptChainTest, EmptyPromptAddsNothing) {
  const auto chain = ResolvePromptChain("quiet", In(kLinks));
  ASSERT_TRUE(chain.ok());
  EXPECT_EQ(chain->prompts.size(), 2u);
}

TEST(PromptChainTest, RefusesCyclesOrphansAndDepth) {
  const auto loop = ResolvePromptChain("loop-a", In(kLinks));
  EXPECT_EQ(loop.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(Message(loop.status())),
              HasSubstr("loop-a -> loop-b -> loop-a"));
  const auto orphan = ResolvePromptChain("orphan", In(kLinks));
  EXPECT_EQ(orphan.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(Message(orphan.status())),
              HasSubstr("orphan -> gone"));
  EXPECT_EQ(ResolvePromptChain("nobody", In(kLinks)).status().code(),
            absl::StatusCode::kNotFound);

  Links deep = {{"e0", {}}};
  for (int i = 1; i <= 6; ++i) {
    deep["e" + std::to_string(i)] = {"e" + std::to_string(i - 1), "p"};
  }
  EXPECT_TRUE(ResolvePromptChain("e4", In(deep)).ok());
  EXPECT_EQ(ResolvePromptChain("e5", In(deep)).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace conclave::router
