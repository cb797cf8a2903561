// Chooses tokens for one answer. In this order, as vLLM does:
//
//   log-probabilities of the raw logits are taken;
//   repetition, frequency and presence penalties; logit bias;
//   temperature 0: the largest, ties to the lower id;
//   else temperature, top-k, top-p, min-p, one random number.
//
// Everything after the logits is in double and in one fixed order. The random
// number depends on seed, answer and position alone.
//
// Threads: none; different Samplers may run concurrently.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_SAMPLER_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_SAMPLER_H_

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "expert_workers/engine/sampling_params.h"
#include "expert_workers/engine/token_event.h"

namespace conclave::engine {

class Sampler {
 public:
  // `params` has passed CheckSamplingParams.
  Sampler(const SamplingParams& params, uint64_t seed, int32_t answer,
          std::span<const int32_t> prompt);

  // The token at `position` (counted from the prompt's start), and remembers
  // it. `logits` [vocab_size] is overwritten.
  //   INTERNAL  the logits hold NaN or no finite maximum
  absl::StatusOr<TokenEvent> Sample(std::span<float> logits, int64_t position);

 private:
  struct Seen {
    bool in_prompt = false;
    int32_t in_output = 0;
  };
  struct Candidate {
    float logit;
    int32_t token;
    double weight;
  };

  void Adjust(std::span<float> logits) const;
  int32_t Draw(std::span<const float> logits, float max, double unit);
  int32_t DrawFromAll(std::span<const float> logits, float max, double scale,
                      double unit) const;
  // The top_k best, best first.
  void TakeTopK(std::span<const float> logits);
  // Those whose weight is at least `least`, best first.
  void TakeHeavy(std::span<const float> logits, float max, double scale,
                 double least);

  const SamplingParams params_;
  const uint64_t seed_;
  const uint32_t answer_;
  std::unordered_map<int32_t, Seen> seen_;
  std::vector<Candidate> candidates_;  // scratch
};

// Describes `token` under raw `logits`, with the `num_top` best beside it.
//   INTERNAL  as Sample
absl::StatusOr<TokenEvent> ScoreToken(std::span<const float> logits,
                                      int32_t token, int32_t num_top);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_SAMPLER_H_
