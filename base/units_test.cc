#include "base/units.h"

#include <gtest/gtest.h>

namespace conclave {
namespace {

TEST(UnitsTest, ParsesWhatPeopleWrite) {
  EXPECT_EQ(ParseBytes("1048576", 0).value(), kMiB);
  EXPECT_EQ(ParseBytes("512M", 0).value(), 512 * kMiB);
  EXPECT_EQ(ParseBytes("2GiB", 0).value(), 2 * kGiB);
  EXPECT_EQ(ParseBytes("1.5k", 0).value(), 1536);
  EXPECT_EQ(ParseBytes("64%", 1000).value(), 640);
}

TEST(UnitsTest, RefusesNonsense) {
  for (const char* text :
       {"", "x", "-1", "101%", "1Q", "1Mx", "1e30G", "nan"}) {
    EXPECT_FALSE(ParseBytes(text, 1000).ok()) << text;
  }
}

TEST(UnitsTest, FormatsForPeople) {
  EXPECT_EQ(FormatBytes(512), "512 B");
  EXPECT_EQ(FormatBytes(98362432), "93.8 MiB");
}

}  // namespace
}  // namespace conclave
