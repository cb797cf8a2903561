#include "cli/samples.h"

#include <gtest/gtest.h>

#include <fstream>

namespace conclave::cli {
namespace {

std::string Write(const std::string& text) {
  const std::string path =
      testing::TempDir() + "/samples." + std::to_string(getpid()) + ".jsonl";
  std::ofstream(path) << text;
  return path;
}

TEST(SamplesTest, ReadsBothShapes) {
  const auto samples = ReadSamples(
      Write("{\"text\": \"a\"}\n\n{\"text\": \"b\", \"category\": \"law\"}\n"),
      "code");
  ASSERT_TRUE(samples.ok());
  EXPECT_EQ(*samples,
            (std::vector<registry::Sample>{{"a", "code"}, {"b", "law"}}));
}

TEST(SamplesTest, NamesTheBadLine) {
  for (const char* bad : {"{\"text\": 3}", "nonsense", "[]",
                          "{\"text\": \"a\", \"category\": 1}"}) {
    const auto samples = ReadSamples(
        Write(std::string("{\"text\": \"a\"}\n") + bad + "\n"), "code");
    ASSERT_FALSE(samples.ok()) << bad;
    EXPECT_NE(Message(samples.status()).find("line 2"), std::string_view::npos);
  }
  EXPECT_FALSE(ReadSamples(Write("\n"), "code").ok());
  EXPECT_EQ(ReadSamples("/nonexistent", "code").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace conclave::cli
