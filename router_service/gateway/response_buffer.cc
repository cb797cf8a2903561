#include "router_service/gateway/response_buffer.h"

#include <absl/time/clock.h>
#include <fmt/format.h>

#include <boost/beast/http/status.hpp>
#include <iterator>
#include <utility>

#include "base/check.h"

namespace conclave::gateway {
namespace {

// A value that could end the header early, or start another, is cut down to
// its printable bytes.
void AppendPrintable(std::string_view value, std::string& out) {
  for (char c : value) {
    if (c >= 0x20 && c <= 0x7e) out += c;
  }
}

}  // namespace

void ResponseBuffer::AppendHead(const HttpResponse& response, bool chunked,
                                size_t content_length) {
  const auto reason =
      boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(
          static_cast<unsigned>(response.status)));
  // 499 is nginx's word for "the client left"; Beast has no name for it.
  const std::string_view reason_text(reason.data(), reason.size());
  auto out = std::back_inserter(pending_);
  fmt::format_to(out, "HTTP/1.1 {} {}\r\n", response.status, reason_text);
  fmt::format_to(out, "date: {}\r\n",
                 absl::FormatTime("%a, %d %b %Y %H:%M:%S GMT", absl::Now(),
                                  absl::UTCTimeZone()));
  pending_ += "content-type: ";
  AppendPrintable(response.content_type, pending_);
  pending_ += "\r\n";
  for (const auto& [name, value] : response.headers) {
    pending_ += name;
    pending_ += ": ";
    AppendPrintable(value, pending_);
    pending_ += "\r\n";
  }
  if (chunked && framing_.http_10) {
    framing_.keep_alive = false;
  } else if (chunked) {
    pending_ += "transfer-encoding: chunked\r\n";
  } else {
    fmt::format_to(out, "content-length: {}\r\n", content_length);
  }
  if (!framing_.keep_alive) {
    pending_ += "connection: close\r\n";
  } else if (framing_.http_10) {
    pending_ += "connection: keep-alive\r\n";
  }
  pending_ += "\r\n";
}

bool ResponseBuffer::WakeNeeded() { return std::exchange(sleeping_, false); }

void ResponseBuffer::UpdateFull() {
  const size_t unsent = pending_.size() + in_flight_;
  if (unsent >= full_bytes_) full_ = true;
  if (unsent < full_bytes_ / 2) full_ = false;
}

void ResponseBuffer::Respond(const HttpResponse& response) {
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    CHECK(!started_, "a second response to one request");
    started_ = true;
    end_ = End::kFinished;
    if (gone_) return;
    AppendHead(response, /*chunked=*/false, response.body.size());
    if (!framing_.head_only) pending_ += response.body;
    wake = WakeNeeded();
  }
  if (wake) wake_();
}

void ResponseBuffer::StartStream(const HttpResponse& head) {
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    CHECK(!started_, "a second response to one request");
    started_ = true;
    if (gone_) return;
    AppendHead(head, /*chunked=*/true, 0);
    wake = WakeNeeded();
  }
  if (wake) wake_();
}

ResponseBuffer::WriteResult ResponseBuffer::Write(std::string_view text) {
  if (text.empty()) return WriteResult::kOk;
  bool wake = false;
  bool filled = false;
  {
    std::lock_guard lock(mutex_);
    if (gone_) return WriteResult::kGone;
    if (pending_.size() + in_flight_ > most_bytes_) {
      return WriteResult::kRefused;
    }
    if (framing_.http_10) {
      pending_ += text;
    } else {
      fmt::format_to(std::back_inserter(pending_), "{:x}\r\n", text.size());
      pending_ += text;
      pending_ += "\r\n";
    }
    filled = !full_;
    UpdateFull();
    filled = filled && full_;
    wake = WakeNeeded();
  }
  if (wake) wake_();
  return filled ? WriteResult::kFilled : WriteResult::kOk;
}

void ResponseBuffer::EndStream(End end) {
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    if (end_ != End::kOpen) return;
    end_ = end;
    if (gone_) return;
    if (end == End::kAborted) framing_.keep_alive = false;
    if (end == End::kFinished && !framing_.http_10) pending_ += "0\r\n\r\n";
    wake = WakeNeeded();
  }
  if (wake) wake_();
}

ResponseBuffer::Taken ResponseBuffer::Take() {
  std::lock_guard lock(mutex_);
  Taken taken{std::exchange(pending_, std::string()), end_};
  in_flight_ += taken.bytes.size();
  sleeping_ = taken.bytes.empty();
  return taken;
}

void ResponseBuffer::Sent(size_t n) {
  std::lock_guard lock(mutex_);
  in_flight_ -= n;
  UpdateFull();
}

void ResponseBuffer::SetGone() {
  std::lock_guard lock(mutex_);
  gone_ = true;
  pending_.clear();
}

bool ResponseBuffer::full() const {
  std::lock_guard lock(mutex_);
  return full_;
}

bool ResponseBuffer::keep_alive() const {
  std::lock_guard lock(mutex_);
  return framing_.keep_alive;
}

bool ResponseBuffer::started() const {
  std::lock_guard lock(mutex_);
  return started_;
}

}  // namespace conclave::gateway
