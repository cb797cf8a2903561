#include "cli/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cli/routing_options.h"

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

// The choice of experts, from every place that can set it.
class RoutingSettingsTest : public SettingsTest {
 protected:
  RoutingSettingsTest() { AddRoutingOptions(app_, options_); }
  ~RoutingSettingsTest() override { unsetenv("CONCLAVE_EXPLORE"); }

  // The message of what is refused.
  static std::string Refused(RoutingOptions options) {
    const auto policy = ResolveRoutingOptions(options);
    if (policy.ok()) return "taken";
    EXPECT_EQ(policy.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(Message(policy.status()));
  }

  RoutingOptions options_;
};

TEST_F(RoutingSettingsTest, FlagEnvironmentAndFileReachThePolicy) {
  app_.parse("--max-cost 2.5", false);
  setenv("CONCLAVE_EXPLORE", "0.1", 1);
  ASSERT_TRUE(ApplySettings(app_, Config("max-cost: 9\nexplore: 0.7\n")).ok());
  const auto policy = ResolveRoutingOptions(options_);
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ(policy->select.max_cost, 2.5);
  EXPECT_EQ(policy->select.epsilon, 0.1);
}

TEST_F(RoutingSettingsTest, NoLimitAndNoExplorationUnlessAsked) {
  app_.parse("", false);
  ASSERT_TRUE(ApplySettings(app_, "").ok());
  const auto policy = ResolveRoutingOptions(options_);
  ASSERT_TRUE(policy.ok());
  EXPECT_EQ(policy->select.max_cost, 0);
  EXPECT_EQ(policy->select.epsilon, 0);
}

TEST_F(RoutingSettingsTest, WhatIsOutOfRangeIsRefusedByName) {
  EXPECT_THAT(Refused({.max_cost = -1}),
              testing::HasSubstr("--max-cost is -1"));
  EXPECT_THAT(Refused({.max_cost = NAN}), testing::HasSubstr("--max-cost"));
  EXPECT_THAT(Refused({.max_cost = INFINITY}),
              testing::HasSubstr("--max-cost"));
  EXPECT_THAT(Refused({.explore = 1.5}),
              testing::HasSubstr("--explore is 1.5"));
  EXPECT_THAT(Refused({.explore = -0.1}), testing::HasSubstr("--explore"));
  EXPECT_THAT(Refused({.explore = NAN}), testing::HasSubstr("--explore"));
  EXPECT_EQ(Refused({.explore = 1}), "taken");
}

TEST(UniformRandomTest, StaysInRangeAndMoves) {
  double sum = 0;
  for (int i = 0; i < 10'000; ++i) {
    const double drawn = UniformRandom();
    ASSERT_GE(drawn, 0);
    ASSERT_LT(drawn, 1);
    sum += drawn;
  }
  EXPECT_NEAR(sum / 10'000, 0.5, 0.03);  // 10 standard errors
}

}  // namespace
}  // namespace conclave::cli
