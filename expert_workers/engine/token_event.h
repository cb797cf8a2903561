// What is told about one token, generated or (for prompt_logprobs) given.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_TOKEN_EVENT_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_TOKEN_EVENT_H_

#include <cstdint>
#include <vector>

namespace conclave::engine {

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

// Log-probabilities are the model's own: the log-softmax of its logits, before
// penalties, bias and temperature. A prompt's first token has none (0).
struct TokenEvent {
  int32_t token = 0;
  float logprob = 0;              // set when logprobs were asked for
  std::vector<TokenLogprob> top;  // best first; `logprobs` of them
};

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_TOKEN_EVENT_H_
