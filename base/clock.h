// Time as a dependency: whatever waits, expires or measures is given a Clock,
// so that a test owns time.
#ifndef CONCLAVE_BASE_CLOCK_H_
#define CONCLAVE_BASE_CLOCK_H_

#include <absl/time/time.h>

#include <atomic>
#include <cstdint>

namespace conclave {

// Threads: all methods may run concurrently.
class Clock {
 public:
  virtual ~Clock() = default;
  // Wall time: for records that people or other machines read.
  virtual absl::Time Now() = 0;
  // Nanoseconds that never go back: for durations and timeouts.
  virtual int64_t MonotonicNanos() = 0;

  // The machine's own clock; never destroyed.
  static Clock& Real();
};

// Moves only when told. Useful for leases, deadlines, breakers and anything
// else that would otherwise sleep in a test.
class FakeClock final : public Clock {
 public:
  explicit FakeClock(absl::Time start = absl::FromUnixSeconds(1'700'000'000))
      : start_(start) {}
  absl::Time Now() override {
    return start_ + absl::Nanoseconds(nanos_.load());
  }
  int64_t MonotonicNanos() override { return nanos_.load(); }
  void Advance(absl::Duration d) { nanos_ += absl::ToInt64Nanoseconds(d); }

 private:
  const absl::Time start_;
  std::atomic<int64_t> nanos_{0};
};

}  // namespace conclave

#endif  // CONCLAVE_BASE_CLOCK_H_
