#include "cli/terminal.h"

#include <gtest/gtest.h>

namespace conclave::cli {
namespace {

TEST(TerminalTest, WhatDrivesATerminalIsMasked) {
  EXPECT_EQ(Printable("no model \"x\"\nsecond line"),
            "no model \"x\"\nsecond line");
  EXPECT_EQ(Printable("\u00e9 \u20ac \U0001f600"), "\u00e9 \u20ac \U0001f600");
  EXPECT_EQ(Printable("\x1b[2Jcleared"), "?[2Jcleared");
  EXPECT_EQ(Printable("a\rb\bc\td\x7f"), "a?b?c?d?");
  EXPECT_EQ(Printable(std::string("a\0b", 3)), "a?b");
  // CSI as one character, and as a byte that is no UTF-8.
  EXPECT_EQ(Printable("\u009b31m"), "?31m");
  EXPECT_EQ(Printable("\x9b"
                      "31m"),
            "?31m");
  EXPECT_EQ(Printable("\u00a0"), "\u00a0");
}

TEST(TerminalTest, WhatIsCutShortIsNoCharacter) {
  EXPECT_EQ(Printable("\xe2\x82"), "??");
  EXPECT_EQ(Printable("\xe2\x1b[m"), "??[m");
  EXPECT_EQ(Printable("\xc2\x1b[m"), "??[m");
  EXPECT_EQ(Printable("\xc0\x9b"), "??");
  EXPECT_EQ(Printable("\xf5\x80"), "??");
  EXPECT_EQ(Printable(""), "");
}

// Standard error of a command is what a person sees.
TEST(TerminalTest, AnErrorQuotesNoControlCharacter) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(ReportError(NotFound("no model \"{}\"", "\x1b]0;owned\x07")), 1);
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "error: NOT_FOUND: no model \"?]0;owned?\"\n");
}

TEST(TerminalTest, ColumnsLineUpByCharacters) {
  EXPECT_EQ(Table({{"A", "B"}, {"\u00e9\u00e9\u00e9", "x"}}),
            "A    B\n\u00e9\u00e9\u00e9  x\n");
}

}  // namespace
}  // namespace conclave::cli
