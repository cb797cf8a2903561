#include "expert_workers/engine/speculation.h"

#include <algorithm>

namespace conclave::engine {
namespace {

constexpr double kKeepRate = 0.98;
// The model stays when it makes this much of a difference.
constexpr double kMargin = 1.03;
// A draft model's step, in steps of the large one, until it is measured.
constexpr double kDraftStep = 0.3;

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
  right_ = prior_.keep * right_ + static_cast<double>(accepted);
  tried_ = prior_.keep * tried_ +
           static_cast<double>(std::min(accepted + 1, guesses));
  // Neither 0 nor 1, which would never be tried or never be doubted again.
  right_ = std::clamp(right_, 0.02 * tried_, 0.98 * tried_);
}

void Acceptance::Rest() {
  const double keep = prior_.keep_at_rest;
  right_ = keep * right_ + (1 - keep) * prior_.right;
  tried_ = keep * tried_ + (1 - keep) * prior_.tried;
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
                                  std::min(limit, max_draft_), /*guess=*/0));
}

void Payoff::Rate::Observe(double more, absl::Duration took) {
  ++steps;
  tokens = kKeepRate * tokens + more;
  seconds = kKeepRate * seconds + absl::ToDoubleSeconds(took);
}

void Payoff::ObservePlain(double tokens, absl::Duration took) {
  plain_.Observe(tokens, took);
  if (++plain_since_ >= kAgain) model_ = Rate();
}

void Payoff::ObserveModel(double tokens, absl::Duration took) {
  model_.Observe(tokens, took);
  plain_since_ = 0;
}

bool Payoff::UseModel() const {
  if (plain_.steps < kPlainFirst) return false;
  return model_.steps < kTrial || model_.Of() > kMargin * plain_.Of();
}

int64_t Speculator::CountForModel(const Acceptance& acceptance, int64_t answers,
                                  int64_t generating, int64_t limit,
                                  const StepTime& draft_time) const {
  if (paced_ && (!step_time_.known() || !payoff_.UseModel())) return 0;
  const auto together = static_cast<double>(answers);
  const double guess = draft_time.known() ? draft_time.Of(together) / together
                                          : kDraftStep * step_time_.Of(1);
  return BestCount(acceptance.rate(), generating, std::min(limit, max_draft_),
                   guess);
}

int64_t Speculator::BestCount(double acceptance, int64_t generating,
                              int64_t limit, double guess) const {
  if (!paced_) return limit;
  const auto n = static_cast<double>(generating);
  int64_t best = 0;
  double best_rate = n / step_time_.Of(n);
  double tokens = 1;
  double power = 1;
  for (int64_t k = 1; k <= limit; ++k) {
    power *= acceptance;
    tokens += power;
    const auto more = static_cast<double>(k);
    const double rate =
        (n - 1 + tokens) / (step_time_.Of(n + more) + more * guess);
    if (rate > best_rate) {
      best_rate = rate;
      best = k;
    }
  }
  return best;
}

}  // namespace conclave::engine
