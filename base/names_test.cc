#include "base/names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace conclave {
namespace {

TEST(NamesTest, GrammarAcceptsOrdinaryNames) {
  for (const char* name : {"chat", "coder-large", "qwen2.5_coder", "0"}) {
    EXPECT_TRUE(CheckName("expert", name).ok()) << name;
  }
}

TEST(NamesTest, GrammarRefusesPathsControlAndReserved) {
  for (std::string name :
       {std::string(), std::string("../x"), std::string("a..b"),
        std::string("A"), std::string("a/b"), std::string("a\0b", 3),
        std::string("-a"), std::string(65, 'a'), std::string("auto"),
        std::string("\xc3\xa9")}) {
    EXPECT_EQ(CheckName("expert", name).code(),
              absl::StatusCode::kInvalidArgument)
        << name;
  }
}

TEST(NamesTest, NearestFirst) {
  EXPECT_THAT(NearestNames("coderr", {"chat", "coder", "codex"}),
              testing::ElementsAre("coder", "codex"));
  EXPECT_THAT(NearestNames("zzzz", {"chat", "coder"}), testing::IsEmpty());
  EXPECT_EQ(DidYouMean("chaat", {"chat"}), " Did you mean: chat?");
}

}  // namespace
}  // namespace conclave
