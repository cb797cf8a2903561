#include "expert_workers/engine/step_pacer.h"

#include <algorithm>

#include "base/check.h"

namespace conclave::engine {
namespace {

// Beside sequences whose time is not known: little, for the first steps.
constexpr int64_t kCautious = 8;
// A step's time without prompt tokens is taken again after so many with: they
// cost it 1 in 64, and contexts grow by as many tokens in between.
constexpr int64_t kMaxAge = 64;
constexpr int64_t kFirstAge = kMaxAge - 8;
// A prompt token never counts for less than this part of a generated one: a
// lucky first measurement must not let a long step through.
constexpr double kLeastPart = 1.0 / 16;

// How a measurement changes what is known: by a part of the difference, and of
// no more than a factor. Threads that were not scheduled make steps look long,
// and that says nothing of the work.
struct Trust {
  double weight, down, up;
};
// Rarely measured, and too large a value lets long steps through.
constexpr Trust kGeneration = {0.5, 2.0, 1.25};
// Measured in every step; too small a value lets long steps through.
constexpr Trust kPrompt = {0.25, 1.5, 2.0};

void Learn(double& value, double measured, const Trust& trust) {
  if (value == 0) {
    value = measured;
    return;
  }
  const double credible =
      std::clamp(measured, value / trust.down, value * trust.up);
  value += trust.weight * (credible - value);
}

}  // namespace

StepPacer::StepPacer(const StepPacerOptions& options) : options_(options) {
  CHECK(options.max_tokens >= 1 && options.min_alone >= 1 &&
        options.stretch > 1);
}

int64_t StepPacer::PromptTokens(int64_t generating) const {
  if (generating == 0) {
    if (alone_us_ == 0) {
      return std::min(options_.min_alone, options_.max_tokens);
    }
    const double fit = absl::ToDoubleMicroseconds(options_.alone) / alone_us_;
    return std::min(
        std::max(static_cast<int64_t>(std::min(fit, 1e6)), options_.min_alone),
        options_.max_tokens);
  }
  const auto found = generation_.find(generating);
  if (found == generation_.end() || found->second.age >= kMaxAge) return 0;
  if (beside_us_ == 0) return std::min(kCautious, options_.max_tokens);
  const double room = (options_.stretch - 1) * found->second.us / beside_us_;
  return std::clamp<int64_t>(static_cast<int64_t>(std::min(room, 1e6)), 1,
                             options_.max_tokens);
}

void StepPacer::Observe(int64_t generating, int64_t prompt_tokens,
                        absl::Duration took) {
  const double us = std::max(absl::ToDoubleMicroseconds(took), 1e-3);
  if (generating == 0) {
    if (prompt_tokens > 0) {
      Learn(alone_us_, us / static_cast<double>(prompt_tokens), kPrompt);
    }
    return;
  }
  Generation& generation = generation_[generating];
  if (prompt_tokens == 0) {
    // The first one is confirmed soon: it may have met cold caches.
    generation.age = generation.us == 0 ? kFirstAge : 0;
    Learn(generation.us, us, kGeneration);
    return;
  }
  ++generation.age;
  if (generation.us == 0) return;
  const double least =
      kLeastPart * generation.us / static_cast<double>(generating);
  Learn(beside_us_,
        std::max((us - generation.us) / static_cast<double>(prompt_tokens),
                 least),
        kPrompt);
}

}  // namespace conclave::engine
