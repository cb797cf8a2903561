#include "cli/speed_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/line_process.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;

SpeedReport Example() {
  SpeedReport report;
  report.machine = "AMD EPYC, avx512, 2 cores, load 0.15, commit 1a2b3c4-dirty";
  report.threads = 2;
  report.prompt = 512;
  report.generate = 64;
  report.streams = 8;
  report.stream_prompt = 64;
  report.rounds = 3;
  report.peer_version = "0.3.36";
  report.limits = {"avx512", 36e9, 860e9};
  ModelSpeed model;
  model.name = "Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf";
  model.token_bytes = 900'000'000;
  model.token_ops = 3'000'000'000;
  model.prompt = {{150, 100, 120}, {60, 50, 40}};
  model.one = {{20, 19, 21}, {10, 11, 9}};
  model.streams = {{80, 80, 80}, {40, 40, 40}};
  report.models.push_back(model);
  return report;
}

TEST(SpeedReportTest, MediansBesideThePeerAndTheLimits) {
  const std::string text = SpeedText(Example());
  std::istringstream lines(text);
  std::string line;
  int rows = 0;
  while (std::getline(lines, line)) {
    EXPECT_LE(line.size(), 100u) << line;
    std::istringstream words(line);
    std::vector<std::string> cells;
    for (std::string word; words >> word;) cells.push_back(word);
    if (line.starts_with("prompt")) {
      EXPECT_THAT(cells, testing::ElementsAre("prompt", "120", "50.0", "2.40",
                                              "360", "GOP/s", "42", "%"));
      ++rows;
    }
    if (line.starts_with("one stream")) {
      EXPECT_THAT(cells, testing::ElementsAre("one", "stream", "20.0", "10.0",
                                              "2.00", "18.0", "GB/s", "50", "%",
                                              "60.0", "GOP/s", "7", "%"));
      ++rows;
    }
    if (line.starts_with("8 streams")) {
      EXPECT_THAT(cells, testing::ElementsAre("8", "streams", "80.0", "40.0",
                                              "2.00", "9.0", "GB/s", "25", "%",
                                              "240", "GOP/s", "28", "%"));
      ++rows;
    }
  }
  EXPECT_EQ(rows, 3);
}

TEST(SpeedReportTest, WithoutThePeerTheRestIsThere) {
  SpeedReport report = Example();
  report.models[0].prompt.peer.clear();
  report.models[0].one.peer.clear();
  report.models[0].streams.peer.clear();
  report.models[0].no_peer = "llama.cpp: not here";
  report.limits.int8_ops_per_second = 0;  // a processor without a known peak
  const std::string text = SpeedText(report);
  EXPECT_THAT(text, HasSubstr("llama.cpp: not here\n"));
  EXPECT_THAT(text, HasSubstr("one stream  20.0  -"));
  const auto json = nlohmann::json::parse(SpeedJson(report));
  EXPECT_EQ(json["models"][0]["without_llama_cpp"], "llama.cpp: not here");
  EXPECT_EQ(json["models"][0]["prompt_tokens_per_second"]["ours"][0], 150.0);
  EXPECT_TRUE(
      json["models"][0]["prompt_tokens_per_second"]["llama_cpp"].empty());
}

TEST(LineProcessTest, AsksAndHears) {
  const auto cat = LineProcess::Start({"cat"});
  ASSERT_TRUE(cat.ok()) << cat.status();
  for (const char* line : {"one", "and another", "{\"a\": 1}"}) {
    const auto answer = (*cat)->Ask(line);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(*answer, line);
  }
}

TEST(LineProcessTest, AProgramThatEndsOrIsNotThereIsAnError) {
  const auto none = LineProcess::Start({"no-such-program-anywhere"});
  EXPECT_EQ(none.status().code(), absl::StatusCode::kNotFound);
  const auto brief = LineProcess::Start({"sh", "-c", "echo hello"});
  ASSERT_TRUE(brief.ok()) << brief.status();
  const auto hello = (*brief)->Ask("");
  ASSERT_TRUE(hello.ok()) << hello.status();
  EXPECT_EQ(*hello, "hello");
  EXPECT_EQ((*brief)->Ask("").status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::cli
