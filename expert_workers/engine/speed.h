// How fast one model runs through the whole engine, for those who compare it:
// a prompt and the generation behind it, and several streams together.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_SPEED_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_SPEED_H_

#include <cstdint>
#include <memory>

#include "base/status.h"
#include "expert_workers/engine/compute.h"
#include "expert_workers/tokenizer/tokenizer.h"
#include "expert_workers/weights/ram_tier.h"

namespace conclave::engine {

struct SpeedOptions {
  int64_t prompt = 512;        // tokens
  int64_t generate = 64;       // tokens behind it
  int64_t streams = 8;         // requests together
  int64_t stream_prompt = 64;  // tokens of each of these
};

struct OneStreamSpeed {
  double prompt_tokens_per_second = 0;
  double generated_tokens_per_second = 0;
};

// Greedy, no prefix cache, nothing guessed ahead: every token is computed, as
// an engine without these would. A prompt is never asked twice.
//
// Threads: one at a time.
class SpeedMeter {
 public:
  // Takes the lease; `compute` outlives it. Errors as Engine::Create's.
  static absl::StatusOr<std::unique_ptr<SpeedMeter>> Create(
      std::unique_ptr<weights::ModelLease> lease,
      std::shared_ptr<const Tokenizer> tokenizer, Compute* compute,
      const SpeedOptions& options);
  virtual ~SpeedMeter() = default;

  virtual absl::StatusOr<OneStreamSpeed> MeasureOne() = 0;
  // Tokens per second of all streams together, while every one generates.
  //   INTERNAL  there was no such time
  virtual absl::StatusOr<double> MeasureStreams() = 0;
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_SPEED_H_
