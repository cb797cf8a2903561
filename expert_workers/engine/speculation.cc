#include "expert_workers/engine/speculation.h"

#include <algorithm>

namespace conclave::engine {
namespace {

// What an observation still counts when the next has come.
constexpr double kKeepAcceptance = 0.9;
constexpr double kKeepAtRest = 0.98;
constexpr double kKeepTime = 0.98;
// A row more costs so much of a step of one row, until that is known.
constexpr double kSlope = 0.15;

// How many tokens before `end` equal the last ones, at most kMaxMatch.
int64_t MatchLength(std::span<const int32_t> tokens, int64_t end) {
  const auto size = static_cast<int64_t>(tokens.size());
  int64_t length = 0;
  while (length < kMaxMatch && length < end &&
         tokens[static_cast<size_t>(end - 1 - length)] ==
             tokens[static_cast<size_t>(size - 1 - length)]) {
    ++length;
  }
  return length;
}

}  // namespace

void Acceptance::Observe(int64_t guesses, int64_t accepted) {
  right_ = kKeepAcceptance * right_ + static_cast<double>(accepted);
  tried_ = kKeepAcceptance * tried_ +
           static_cast<double>(std::min(accepted + 1, guesses));
  // Neither 0 nor 1, which would never be tried or never be doubted again.
  right_ = std::clamp(right_, 0.02 * tried_, 0.98 * tried_);
}

void Acceptance::Rest() {
  right_ = kKeepAtRest * right_ + (1 - kKeepAtRest) * kRight;
  tried_ = kKeepAtRest * tried_ + (1 - kKeepAtRest) * kTried;
}

std::vector<int32_t> LookUp(std::span<const int32_t> tokens, int64_t count) {
  const auto size = static_cast<int64_t>(tokens.size());
  if (count <= 0 || size <= kMinMatch) return {};
  const int32_t last = tokens.back();
  int64_t best = 0;
  int64_t best_end = 0;
  for (int64_t end = size - 1; end >= kMinMatch; --end) {
    if (tokens[static_cast<size_t>(end - 1)] != last) continue;
    const int64_t length = MatchLength(tokens, end);
    if (length <= best) continue;
    best = length;
    best_end = end;
    if (best == kMaxMatch) break;
  }
  if (best < kMinMatch) return {};
  // What is known may end here; then the guesses go on from themselves, as a
  // text that repeats does.
  std::vector<int32_t> found;
  for (int64_t i = 0; i < count; ++i) {
    const auto from = static_cast<size_t>(best_end + i);
    found.push_back(from < tokens.size() ? tokens[from]
                                         : found[from - tokens.size()]);
  }
  return found;
}

std::vector<int32_t> Speculator::Draft(std::span<const int32_t> tokens,
                                       const Acceptance& acceptance,
                                       int64_t generating,
                                       int64_t limit) const {
  return LookUp(tokens, BestCount(acceptance.rate(), generating,
                                  std::min(limit, max_draft_)));
}

void Speculator::Observe(int64_t rows, absl::Duration took) {
  const auto x = static_cast<double>(rows);
  const double y = absl::ToDoubleMicroseconds(took);
  weight_ = kKeepTime * weight_ + 1;
  rows_ = kKeepTime * rows_ + x;
  time_ = kKeepTime * time_ + y;
  rows_rows_ = kKeepTime * rows_rows_ + x * x;
  rows_time_ = kKeepTime * rows_time_ + x * y;
}

double Speculator::Cost(double rows) const {
  if (weight_ == 0) return 1 + kSlope * (rows - 1);
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

int64_t Speculator::BestCount(double acceptance, int64_t generating,
                              int64_t limit) const {
  if (!paced_) return limit;
  const auto n = static_cast<double>(generating);
  int64_t best = 0;
  double best_rate = n / Cost(n);
  double tokens = 1;
  double power = 1;
  for (int64_t k = 1; k <= limit; ++k) {
    power *= acceptance;
    tokens += power;
    const double rate = (n - 1 + tokens) / Cost(n + static_cast<double>(k));
    if (rate > best_rate) {
      best_rate = rate;
      best = k;
    }
  }
  return best;
}

}  // namespace conclave::engine
