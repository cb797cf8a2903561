// OpenAI-compatible servers as experts, over HTTP(S). Shaped as
// expert_workers/client.h, so that the dispatcher cannot tell them apart.
//
// Nothing that a server sends is believed: every line, header and body has a
// limit, every wait a timeout, redirects are never followed, certificates and
// host names are verified unless the endpoint says `insecure`.
//
// Status of a stream or call; every message names the endpoint's host:
//   INVALID_ARGUMENT    the server refuses the request itself (400, 413, 422),
//                       or the request holds what this protocol cannot say
//   RESOURCE_EXHAUSTED  429
//   DEADLINE_EXCEEDED   the deadline, or one of the timeouts below
//   UNAVAILABLE         refused, closed, TLS failure, 5xx, a redirect, a page
//                       that is no event stream, bad JSON, an oversized line,
//                       a stream that ends early; and 401, 403, 404, which
//                       are this endpoint's configuration, not the caller's
//   CANCELLED           Cancel()
//
// Threads: all methods may run concurrently. Callbacks of one call come one
// at a time, on one of the client's threads; they may block briefly.
// Lifetime: calls must be destroyed before their client.
#ifndef CONCLAVE_EXPERT_WORKERS_UPSTREAM_CLIENT_H_
#define CONCLAVE_EXPERT_WORKERS_UPSTREAM_CLIENT_H_

#include <absl/time/time.h>

#include <cstddef>
#include <memory>
#include <string>

#include "base/status.h"
#include "conclave/v1/common.pb.h"
#include "conclave/v1/worker.pb.h"
#include "expert_workers/client.h"

namespace conclave::upstream {

struct UpstreamEndpoint {
  std::string url;           // http(s)://host[:port][/path], as up to "/v1"
  std::string remote_model;  // the model's name over there
  std::string api_key;       // the key itself; empty: none is sent
  bool insecure = false;     // https without verification
};

struct UpstreamOptions {
  int threads = 2;
  absl::Duration connect_timeout = absl::Seconds(5);  // name, TCP and TLS
  // A long prompt on a slow server takes its time before the first token.
  absl::Duration first_byte_timeout = absl::Seconds(120);
  absl::Duration idle_timeout = absl::Seconds(60);  // between two reads
  size_t max_header_bytes = size_t{32} << 10;
  size_t max_line_bytes = size_t{1} << 20;       // one event of a stream
  size_t max_response_bytes = size_t{64} << 20;  // a whole answer
  // Idle connections kept for each endpoint, and for how long.
  size_t max_idle_connections = 8;
  absl::Duration max_idle_time = absl::Seconds(30);
  std::string ca_file;  // PEM; trusted besides the system's
};

class UpstreamClient {
 public:
  // INVALID_ARGUMENT: `ca_file` cannot be read.
  static absl::StatusOr<std::unique_ptr<UpstreamClient>> Create(
      UpstreamOptions options);
  // Cancels what runs, and waits for it.
  virtual ~UpstreamClient() = default;

  // `request.model` is not looked at: the endpoint names its model.
  virtual std::unique_ptr<StreamCall> Generate(
      const v1::WorkerGenerateRequest& request,
      const UpstreamEndpoint& endpoint, absl::Time deadline,
      StreamCallbacks callbacks) = 0;
  virtual absl::StatusOr<v1::EmbedResponse> Embed(
      const v1::EmbedRequest& request, const UpstreamEndpoint& endpoint,
      absl::Time deadline) = 0;
};

}  // namespace conclave::upstream

#endif  // CONCLAVE_EXPERT_WORKERS_UPSTREAM_CLIENT_H_
