// What the HTTP server and its handler exchange. Knows no socket.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_HTTP_MESSAGE_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_HTTP_MESSAGE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conclave::gateway {

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // undecoded, without the query
  std::string host;
  std::string authorization;
  std::string content_type;
  std::string request_id;  // as sent; the handler checks and replaces it
  std::string body;
  // Set by the handler's CheckHead for its own Handle.
  int route = -1;
  std::string tenant;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  // Names in lower case; values without control characters are the server's
  // care: it drops what is not printable.
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

// Answers one request: either Respond once, or StartStream, any number of
// Write, and Finish or Abort once.
//
// Threads: all methods may run concurrently, and none blocks.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;

  virtual void Respond(HttpResponse response) = 0;

  // Sends the head of a streamed body; `head.body` is not sent.
  virtual void StartStream(HttpResponse head) = 0;
  // Queues `text`. False once the client is gone.
  virtual bool Write(std::string_view text) = 0;
  // Ends the body well, or cuts it off so that no client takes it for whole.
  virtual void Finish() = 0;
  virtual void Abort() = 0;

  // Calls `callback` once, on a server thread, when the client is gone before
  // the response is finished; at once when it is already.
  virtual void OnGone(std::function<void()> callback) = 0;
  // Calls `callback`, on a server thread, with true when the client takes a
  // stream more slowly than it is written, and with false when there is room
  // again. What is written in between is kept, up to HttpLimits::max_unsent;
  // then the client is disconnected.
  virtual void OnPressure(std::function<void(bool full)> callback) = 0;
  // Runs `task` on the server's thread for this connection, after what it
  // runs now. Tasks of one connection never run at the same time.
  virtual void Post(std::function<void()> task) = 0;
};

// Threads: both methods run concurrently for different connections, and must
// not block.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Before the body is read. A response refuses the request: it is sent, the
  // body is not read, and the connection closes.
  virtual std::optional<HttpResponse> CheckHead(HttpRequest& request) = 0;
  // Must answer, on any thread, sooner or later.
  virtual void Handle(HttpRequest request,
                      std::shared_ptr<ResponseWriter> writer) = 0;
  // What the HTTP layer itself says: malformed, too large, too slow.
  virtual HttpResponse Error(int status, std::string_view code,
                             std::string_view message) = 0;
};

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_HTTP_MESSAGE_H_
