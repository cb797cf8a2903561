// An OpenAI-compatible server that answers as it is told, well or badly.
// Useful for every way in which an endpoint can fail: refuse, be slow, speak
// nonsense, stop in the middle, redirect, never end.
//
// Threads: all methods may run concurrently; the script runs on the server's
// own thread.
#ifndef CONCLAVE_EXPERT_WORKERS_UPSTREAM_TESTING_FAKE_UPSTREAM_H_
#define CONCLAVE_EXPERT_WORKERS_UPSTREAM_TESTING_FAKE_UPSTREAM_H_

#include <absl/time/time.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "expert_workers/upstream/testing/test_ca.h"

namespace conclave::upstream {

struct FakeRequest {
  std::string path;
  std::string body;
  std::string authorization;
};

struct FakeReply {
  int status = 200;
  std::string content_type = "text/event-stream";
  std::vector<std::pair<std::string, std::string>> headers;
  // The body, one chunk each, with a pause before every one.
  std::vector<std::string> chunks;
  absl::Duration pause = absl::ZeroDuration();
  absl::Duration silence = absl::ZeroDuration();  // before the header
  bool cut = false;      // closes behind the last chunk, the body unfinished
  bool close = false;    // closes properly instead of keeping the connection
  bool endless = false;  // repeats the last chunk until the client goes
  std::string raw;       // when set: these bytes instead of HTTP, then closes
};

// A stream of chat chunks saying `words`, with usage and [DONE].
FakeReply ChatReply(const std::vector<std::string>& words);
// One chunk's "data: ..." with this JSON.
std::string SseEvent(const std::string& json);

class FakeUpstream {
 public:
  using Script = std::function<FakeReply(const FakeRequest& request)>;
  // Over TLS when given a certificate.
  static std::unique_ptr<FakeUpstream> Start(
      Script script, const TestCertificate* certificate = nullptr);
  virtual ~FakeUpstream() = default;  // closes everything

  virtual int port() const = 0;
  virtual std::vector<FakeRequest> requests() const = 0;
  virtual int num_connections() const = 0;  // accepted so far
  virtual int num_open() const = 0;         // still open
  // http(s)://HOST:port/v1
  std::string url(const std::string& host = "127.0.0.1") const {
    return (is_tls() ? "https://" : "http://") + host + ":" +
           std::to_string(port()) + "/v1";
  }
  virtual bool is_tls() const = 0;
};

}  // namespace conclave::upstream

#endif  // CONCLAVE_EXPERT_WORKERS_UPSTREAM_TESTING_FAKE_UPSTREAM_H_
