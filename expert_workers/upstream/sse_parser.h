// Server-sent events, as much of them as OpenAI streams use: the `data` of
// each event. Comments and other fields are skipped.
#ifndef CONCLAVE_EXPERT_WORKERS_UPSTREAM_SSE_PARSER_H_
#define CONCLAVE_EXPERT_WORKERS_UPSTREAM_SSE_PARSER_H_

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace conclave::upstream {

class SseParser {
 public:
  // One event's data; an error stops the parsing and is returned by Feed.
  using Sink = std::function<absl::Status(std::string_view data)>;

  SseParser(size_t max_event_bytes, Sink sink)
      : max_event_bytes_(max_event_bytes), sink_(std::move(sink)) {}

  // Takes the next bytes, cut anywhere.
  //   UNAVAILABLE  a line or an event longer than the limit
  absl::Status Feed(std::string_view bytes);
  // The stream has ended: what stands without its blank line counts, for
  // servers that forget the last one.
  absl::Status Finish();

 private:
  absl::Status TakeLine(std::string_view line);
  absl::Status Dispatch();
  absl::Status CheckSize(size_t bytes) const;

  const size_t max_event_bytes_;
  const Sink sink_;
  std::string line_;  // the line so far
  std::string data_;  // the event so far
  bool has_data_ = false;
  bool after_cr_ = false;  // a '\n' that follows belongs to the '\r'
};

}  // namespace conclave::upstream

#endif  // CONCLAVE_EXPERT_WORKERS_UPSTREAM_SSE_PARSER_H_
