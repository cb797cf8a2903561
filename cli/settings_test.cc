#include "cli/settings.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace conclave::cli {
namespace {

class SettingsTest : public testing::Test {
 protected:
  SettingsTest() {
    app_.add_option("--ram-budget", ram_budget_);
    app_.add_option("--threads", threads_);
    app_.add_option("--category", categories_);
  }
  ~SettingsTest() override {
    unsetenv("CONCLAVE_RAM_BUDGET");
    std::filesystem::remove(path_);
  }
  std::string Config(const std::string& text) {
    std::ofstream(path_) << text;
    return path_;
  }

  CLI::App app_;
  std::string ram_budget_ = "half";
  int threads_ = 2;
  std::vector<std::string> categories_;
  const std::string path_ =
      testing::TempDir() + "/settings." + std::to_string(getpid()) + ".yaml";
};

TEST_F(SettingsTest, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  const std::string config = Config("threads: 7\nram-budget: 1G\n");
  app_.parse("", false);
  EXPECT_EQ(threads_, 2);
  ASSERT_TRUE(ApplySettings(app_, config).ok());
  EXPECT_EQ(threads_, 7);
  EXPECT_EQ(ram_budget_, "1G");

  setenv("CONCLAVE_RAM_BUDGET", "2G", 1);
  app_.parse("--threads 3", false);
  ASSERT_TRUE(ApplySettings(app_, config).ok());
  EXPECT_EQ(threads_, 3);
  EXPECT_EQ(ram_budget_, "2G");
}

TEST_F(SettingsTest, ListsAreSequences) {
  app_.parse("", false);
  ASSERT_TRUE(ApplySettings(app_, Config("category: [code, law]")).ok());
  EXPECT_EQ(categories_, (std::vector<std::string>{"code", "law"}));
}

TEST_F(SettingsTest, UnknownKeyNamesTheNearest) {
  app_.parse("", false);
  const absl::Status status = ApplySettings(app_, Config("ram-buget: 1G"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(Message(status).find("ram-budget"), std::string_view::npos);
}

TEST_F(SettingsTest, BadYamlAndBadValuesAreErrors) {
  app_.parse("", false);
  EXPECT_FALSE(ApplySettings(app_, Config("threads: [")).ok());
  EXPECT_FALSE(ApplySettings(app_, Config("threads: many")).ok());
  EXPECT_FALSE(ApplySettings(app_, "/nonexistent/config.yaml").ok());
}

}  // namespace
}  // namespace conclave::cli
