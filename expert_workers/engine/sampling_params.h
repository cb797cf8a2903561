// How the next token is chosen. Ranges are checked by CheckSamplingParams, at
// every border a request crosses.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_SAMPLING_PARAMS_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_SAMPLING_PARAMS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace conclave::engine {

struct SamplingParams {
  float temperature = 1.0f;         // 0..2; 0 is greedy, ties to the lower id
  int32_t top_k = 0;                // 0: all
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1]
  float repetition_penalty = 1.0f;  // (0, 10]; over prompt and output
  float presence_penalty = 0.0f;    // -2..2; over output
  float frequency_penalty = 0.0f;   // -2..2; over output
  std::map<int32_t, float> logit_bias;  // token id -> -100..100; at most 1024
  // Absent: derived from the request id, so that a retry answers alike.
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;  // at most 16, each 1..256 bytes
  int64_t max_tokens = -1;        // -1: to the end of the context; 0: none
  int32_t logprobs = -1;          // -1: none; 0..20 alternatives a token
  bool prompt_logprobs = false;   // for `echo`
  bool ignore_eos = false;        // as vLLM: end only by length or stop
  int32_t n = 1;                  // 1..8 answers
};

// INVALID_ARGUMENT naming the field, the value and the range.
absl::Status CheckSamplingParams(const SamplingParams& params);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_SAMPLING_PARAMS_H_
