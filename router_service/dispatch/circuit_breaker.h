// Stops asking a target that keeps failing, and finds out when it is back.
//
//              failures in a row             open_for has passed
//   closed ------------------------> open ------------------------> half-open
//     ^                               ^ \__ open_for doubles __/        |
//     |___________ success ___________|_________________ failure _______|
//
// Half-open lets one request through at a time. A target without a verdict for
// `forget_after` is swept away: it starts closed when it comes again.
//
// Threads: all methods may run concurrently.
#ifndef CONCLAVE_ROUTER_SERVICE_DISPATCH_CIRCUIT_BREAKER_H_
#define CONCLAVE_ROUTER_SERVICE_DISPATCH_CIRCUIT_BREAKER_H_

#include <absl/time/time.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/status.h"

namespace conclave::router {

struct BreakerOptions {
  int failures = 5;  // in a row; Envoy's default
  absl::Duration open_for = absl::Seconds(1);
  absl::Duration max_open_for = absl::Seconds(30);
  absl::Duration forget_after = absl::Minutes(10);
};

enum class Verdict : uint8_t {
  kSuccess,
  kFailure,
  kNone,  // says nothing of the target: cancelled, the caller's mistake
};

class CircuitBreaker {
 public:
  explicit CircuitBreaker(Clock* clock, BreakerOptions options = {})
      : clock_(clock), options_(options) {}

  // OK: go ahead, and Report what came of it.
  //   UNAVAILABLE  open; says for how long
  absl::Status Admit(const std::string& target);
  void Report(const std::string& target, Verdict verdict);

  enum class State : uint8_t { kClosed, kOpen, kHalfOpen };
  State state(const std::string& target) const;

 private:
  struct Entry {
    int failures = 0;
    int64_t open_until = 0;  // ns; 0: closed
    absl::Duration open_for;
    bool probing = false;  // half-open, and one request is on its way
    int64_t probe_since = 0;
    int64_t touched = 0;
  };
  void Sweep(int64_t now);

  Clock* const clock_;
  const BreakerOptions options_;
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;  // only targets that have failed
  int64_t next_sweep_ = 0;
};

// What a call's end says of the target that served it.
Verdict VerdictOf(const absl::Status& status);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_DISPATCH_CIRCUIT_BREAKER_H_
