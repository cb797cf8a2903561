#include "expert_workers/upstream/sse_parser.h"

namespace conclave::upstream {

absl::Status SseParser::CheckSize(size_t bytes) const {
  if (bytes <= max_event_bytes_) return absl::OkStatus();
  return Unavailable("an event of its stream is longer than {} bytes",
                     max_event_bytes_);
}

absl::Status SseParser::Feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (after_cr_) {
      after_cr_ = false;
      if (bytes.front() == '\n') {
        bytes.remove_prefix(1);
        continue;
      }
    }
    const size_t end = bytes.find_first_of("\r\n");
    const std::string_view piece = bytes.substr(0, end);
    RETURN_IF_ERROR(CheckSize(line_.size() + piece.size()));
    line_.append(piece);
    if (end == bytes.npos) return absl::OkStatus();
    after_cr_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    std::string line;
    line.swap(line_);
    RETURN_IF_ERROR(TakeLine(line));
  }
  return absl::OkStatus();
}

absl::Status SseParser::Finish() {
  std::string line;
  line.swap(line_);
  if (!line.empty()) RETURN_IF_ERROR(TakeLine(line));
  return Dispatch();
}

absl::Status SseParser::TakeLine(std::string_view line) {
  if (line.empty()) return Dispatch();
  if (!line.starts_with("data")) return absl::OkStatus();
  line.remove_prefix(4);
  if (!line.empty()) {
    if (line.front() != ':') return absl::OkStatus();
    line.remove_prefix(1);
    if (line.starts_with(' ')) line.remove_prefix(1);
  }
  RETURN_IF_ERROR(CheckSize(data_.size() + line.size() + 1));
  if (has_data_) data_.push_back('\n');
  data_.append(line);
  has_data_ = true;
  return absl::OkStatus();
}

absl::Status SseParser::Dispatch() {
  if (!has_data_) return absl::OkStatus();
  std::string data;
  data.swap(data_);
  has_data_ = false;
  return sink_(data);
}

}  // namespace conclave::upstream
