// What a step takes, as a line through (rows, time), learnt from steps taken.
//
//   time(r) = base + slope r
//
// Threads: none; the engine's own.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_STEP_TIME_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_STEP_TIME_H_

#include <absl/time/time.h>

#include <cstdint>

namespace conclave::engine {

class StepTime {
 public:
  // A step of `rows` rows took `took`; recent ones count more.
  void Observe(int64_t rows, absl::Duration took);
  bool known() const { return weight_ > 0; }
  // time(rows) in microseconds; before anything is known, in units of a step
  // of one row.
  double Of(double rows) const;

 private:
  double weight_ = 0, rows_ = 0, time_ = 0, rows_rows_ = 0, rows_time_ = 0;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_STEP_TIME_H_
