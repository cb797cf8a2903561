// The unsent bytes of one response, between the thread that makes them and
// the connection that sends them. Turns a response into HTTP/1 bytes.
//
//   producer: Respond | StartStream, Write..., Finish|Abort
//   connection: Take -> send -> Sent, again
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_RESPONSE_BUFFER_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_RESPONSE_BUFFER_H_

#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "router_service/gateway/http_message.h"

namespace conclave::gateway {

struct ResponseFraming {
  bool http_10 = false;    // no chunks: the body ends with the connection
  bool head_only = false;  // HEAD: no body
  bool keep_alive = true;
};

// Threads: all methods may run concurrently.
class ResponseBuffer {
 public:
  enum class End { kOpen, kFinished, kAborted };

  // From `full` unsent bytes on the writer should wait, at more than `most` it
  // is refused. `wake` is called (without locks held) when there is something
  // to Take after there was nothing.
  ResponseBuffer(ResponseFraming framing, size_t full, size_t most,
                 std::function<void()> wake)
      : framing_(framing),
        full_bytes_(full),
        most_bytes_(most),
        wake_(std::move(wake)) {}

  void Respond(const HttpResponse& response);
  void StartStream(const HttpResponse& head);
  // kFilled: full() has become true. kRefused: more than `most` is unsent.
  enum class WriteResult { kOk, kFilled, kGone, kRefused };
  WriteResult Write(std::string_view text);
  void EndStream(End end);

  // All that is unsent, and how the response stands after it. When `bytes`
  // is empty, `wake` will be called again.
  struct Taken {
    std::string bytes;
    End end;
  };
  Taken Take();
  // `n` bytes of what was taken are sent.
  void Sent(size_t n);
  // The client is gone: drops everything.
  void SetGone();

  // From `full` unsent bytes on, until half of them are sent.
  bool full() const;

  // Whether the connection may serve another request after this one.
  bool keep_alive() const;
  // Has a response begun? Then none can be put in its place.
  bool started() const;

 private:
  void AppendHead(const HttpResponse& response, bool chunked,
                  size_t content_length);
  // Under the lock; the result says whether to call wake_.
  bool WakeNeeded();
  // Under the lock, after pending_ or in_flight_ has changed.
  void UpdateFull();

  ResponseFraming framing_;
  const size_t full_bytes_;
  const size_t most_bytes_;
  const std::function<void()> wake_;
  mutable std::mutex mutex_;
  std::string pending_;
  size_t in_flight_ = 0;
  bool full_ = false;
  bool sleeping_ = true;  // the connection waits for wake_
  bool started_ = false;
  bool gone_ = false;
  End end_ = End::kOpen;
};

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_RESPONSE_BUFFER_H_
