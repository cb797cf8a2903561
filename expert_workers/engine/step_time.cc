#include "expert_workers/engine/step_time.h"

#include <algorithm>

namespace conclave::engine {
namespace {

// What an observation still counts when the next has come.
constexpr double kKeep = 0.98;
// A row more costs so much of a step of one row, until that is known.
constexpr double kSlope = 0.15;

}  // namespace

void StepTime::Observe(int64_t rows, absl::Duration took) {
  const auto x = static_cast<double>(rows);
  const double y = absl::ToDoubleMicroseconds(took);
  weight_ = kKeep * weight_ + 1;
  rows_ = kKeep * rows_ + x;
  time_ = kKeep * time_ + y;
  rows_rows_ = kKeep * rows_rows_ + x * x;
  rows_time_ = kKeep * rows_time_ + x * y;
}

double StepTime::Of(double rows) const {
  if (!known()) return 1 + kSlope * (rows - 1);
  const double mean_rows = rows_ / weight_;
  const double mean_time = time_ / weight_;
  const double variance = rows_rows_ / weight_ - mean_rows * mean_rows;
  double slope = kSlope * mean_time / mean_rows;
  if (variance > 0.05) {
    slope = (rows_time_ / weight_ - mean_rows * mean_time) / variance;
  }
  // Noise must not make rows free, nor a step cost nothing.
  slope = std::max(slope, 0.01 * mean_time / mean_rows);
  return std::max(mean_time + slope * (rows - mean_rows), 0.1 * mean_time);
}

}  // namespace conclave::engine
