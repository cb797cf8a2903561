// Requests as OpenAI-compatible servers read them.
//
// A field goes out only when the caller set it: servers differ in what they
// know, and OpenAI's own refuses names it does not (top_k, min_p,
// repetition_penalty and ignore_eos are vLLM's and llama-server's).
#ifndef CONCLAVE_EXPERT_WORKERS_UPSTREAM_REQUEST_BODY_H_
#define CONCLAVE_EXPERT_WORKERS_UPSTREAM_REQUEST_BODY_H_

#include <string>
#include <string_view>

#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "conclave/v1/worker.pb.h"

namespace conclave::upstream {

struct HttpRequest {
  std::string path;  // below the endpoint's own: "/chat/completions"
  std::string body;  // JSON
};

// A streaming request.
//   INVALID_ARGUMENT  no prompt; tools that are not a JSON array; text that
//                     is not UTF-8; `echo` together with logprobs
absl::StatusOr<HttpRequest> MakeGenerateRequest(
    const v1::WorkerGenerateRequest& request, std::string_view remote_model);

absl::StatusOr<HttpRequest> MakeEmbedRequest(const v1::EmbedRequest& request,
                                             std::string_view remote_model);

}  // namespace conclave::upstream

#endif  // CONCLAVE_EXPERT_WORKERS_UPSTREAM_REQUEST_BODY_H_
