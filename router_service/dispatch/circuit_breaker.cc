#include "router_service/dispatch/circuit_breaker.h"

#include <algorithm>

namespace conclave::router {

absl::Status CircuitBreaker::Admit(const std::string& target) {
  const int64_t now = clock_->MonotonicNanos();
  std::lock_guard lock(mutex_);
  Sweep(now);
  const auto it = entries_.find(target);
  if (it == entries_.end() || it->second.open_until == 0) {
    return absl::OkStatus();
  }
  Entry& entry = it->second;
  if (now < entry.open_until) {
    return Unavailable(
        "it failed {} times in a row; it is asked again in {} ms",
        entry.failures,
        absl::ToInt64Milliseconds(absl::Nanoseconds(entry.open_until - now)));
  }
  // A probe that never reported (its request was lost) must not lock the
  // target out for ever.
  const int64_t patience = absl::ToInt64Nanoseconds(options_.forget_after);
  if (entry.probing && now - entry.probe_since < patience) {
    return Unavailable(
        "it failed {} times in a row; one request is finding "
        "out whether it is back",
        entry.failures);
  }
  entry.probing = true;
  entry.probe_since = now;
  entry.touched = now;
  return absl::OkStatus();
}

void CircuitBreaker::Report(const std::string& target, Verdict verdict) {
  const int64_t now = clock_->MonotonicNanos();
  std::lock_guard lock(mutex_);
  if (verdict == Verdict::kSuccess) {
    entries_.erase(target);
    return;
  }
  const auto it = entries_.find(target);
  if (verdict == Verdict::kNone) {
    if (it != entries_.end()) it->second.probing = false;
    return;
  }
  Entry& entry = it == entries_.end() ? entries_[target] : it->second;
  ++entry.failures;
  entry.touched = now;
  const bool reopens = entry.probing;
  entry.probing = false;
  if (reopens) {
    entry.open_for = std::min(entry.open_for * 2, options_.max_open_for);
  } else if (entry.failures >= options_.failures && entry.open_until == 0) {
    entry.open_for = options_.open_for;
  } else {
    return;  // still closed, or a straggler from before it opened
  }
  entry.open_until = now + absl::ToInt64Nanoseconds(entry.open_for);
}

CircuitBreaker::State CircuitBreaker::state(const std::string& target) const {
  std::lock_guard lock(mutex_);
  const auto it = entries_.find(target);
  if (it == entries_.end() || it->second.open_until == 0) {
    return State::kClosed;
  }
  return clock_->MonotonicNanos() < it->second.open_until ? State::kOpen
                                                          : State::kHalfOpen;
}

void CircuitBreaker::Sweep(int64_t now) {
  if (now < next_sweep_) return;
  const int64_t age = absl::ToInt64Nanoseconds(options_.forget_after);
  next_sweep_ = now + age / 10;
  std::erase_if(entries_, [&](const auto& item) {
    return now - item.second.touched > age;
  });
}

Verdict VerdictOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kInvalidArgument:  // it works: it has read us
    case absl::StatusCode::kOutOfRange:
      return Verdict::kSuccess;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kNotFound:  // a worker without its model
      return Verdict::kFailure;
    default:  // busy, cancelled: neither well nor ill
      return Verdict::kNone;
  }
}

}  // namespace conclave::router
