#include "expert_workers/upstream/sse_parser.h"

#include <gmock/gmock.h>

#include <vector>

namespace conclave::upstream {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Parse(std::string_view text, size_t step) {
  std::vector<std::string> events;
  SseParser parser(1000, [&](std::string_view data) {
    events.emplace_back(data);
    return absl::OkStatus();
  });
  for (size_t i = 0; i < text.size(); i += step) {
    EXPECT_TRUE(parser.Feed(text.substr(i, step)).ok());
  }
  EXPECT_TRUE(parser.Finish().ok());
  return events;
}

TEST(SseParserTest, SameEventsHoweverTheBytesAreCut) {
  const std::string_view text =
      ": hello\r\n\r\nevent: x\ndata: one\n\ndata:two\r\rdata: a\ndata: b\r\n"
      "\r\nid: 3\ndata\n\ndatax: no\n\ndata: last";
  for (size_t step = 1; step <= text.size(); ++step) {
    EXPECT_THAT(Parse(text, step),
                ElementsAre("one", "two", "a\nb", "", "last"))
        << step;
  }
}

TEST(SseParserTest, RefusesLongLinesAndLongEvents) {
  const auto ignore = [](std::string_view) { return absl::OkStatus(); };
  SseParser one_line(100, ignore);
  absl::Status status;
  for (int i = 0; i < 200 && status.ok(); ++i) status = one_line.Feed("x");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);

  SseParser many_lines(100, ignore);
  status = absl::OkStatus();
  for (int i = 0; i < 200 && status.ok(); ++i) {
    status = many_lines.Feed("data: x\n");
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
}

TEST(SseParserTest, TheSinkMayStopIt) {
  SseParser parser(100, [](std::string_view) { return DataLoss("enough"); });
  EXPECT_EQ(parser.Feed("data: x\n\n").code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace conclave::upstream
