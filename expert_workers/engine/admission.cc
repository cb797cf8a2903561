#include "expert_workers/engine/admission.h"

namespace conclave::engine {

absl::Status CheckOptions(const EngineOptions& options) {
  if (options.max_batch < 1 || options.max_batch > 4096) {
    return InvalidArgument("max_batch is {}; it must be 1..4096",
                           options.max_batch);
  }
  if (options.prefill_chunk < 1 || options.prefill_chunk > 65536) {
    return InvalidArgument("prefill_chunk is {}; it must be 1..65536",
                           options.prefill_chunk);
  }
  if (options.max_draft < 0 || options.max_draft > 64) {
    return InvalidArgument("max_draft is {}; it must be 0..64",
                           options.max_draft);
  }
  if (options.max_waiting < 0 || options.max_context < 0) {
    return InvalidArgument(
        "max_waiting is {} and max_context {}; neither may "
        "be negative",
        options.max_waiting, options.max_context);
  }
  return absl::OkStatus();
}

absl::Status CheckRequest(const EngineRequest& request, int64_t vocab_size,
                          int64_t max_context, const KvCache& cache) {
  RETURN_IF_ERROR(CheckSamplingParams(request.sampling));
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt == 0) return InvalidArgument("the prompt is empty");
  for (const int32_t token : request.prompt) {
    if (token < 0 || token >= vocab_size) {
      return InvalidArgument("prompt token {} is outside the vocabulary of {}",
                             token, vocab_size);
    }
  }
  const int64_t asked = request.sampling.max_tokens;
  const int64_t output = asked < 0 ? 1 : asked;
  if (prompt + output > max_context) {
    if (asked < 0) {
      return InvalidArgument(
          "context_length_exceeded: the prompt has {} tokens, the context "
          "{}; nothing is left for an answer",
          prompt, max_context);
    }
    return InvalidArgument(
        "context_length_exceeded: {} prompt tokens and {} to generate are "
        "{}; the context is {}",
        prompt, output, prompt + output, max_context);
  }
  const int64_t pages = PagesForTokens(prompt + output);
  if (pages > cache.total_pages()) {
    return ResourceExhausted(
        "kv_budget_exceeded: {} prompt tokens and {} to generate need {} KV "
        "pages of {} bytes; the budget of {} bytes holds {}",
        prompt, output, pages, cache.shape().PageBytes(), cache.budget_bytes(),
        cache.total_pages());
  }
  return absl::OkStatus();
}

}  // namespace conclave::engine
