// An HTTP/1.1 server for a few long-lived streams and many short requests, on
// Boost.Asio and Beast's parser. TLS is left to a proxy in front.
//
// What strangers can do to it is bounded: bytes (header, body, unsent
// response), time (header, body, idle, stalled write) and connections.
//   connection: idle -> header -> body -> answering -> idle | linger -> closed
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_HTTP_SERVER_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_HTTP_SERVER_H_

#include <absl/time/time.h>

#include <cstddef>
#include <memory>
#include <string>

#include "base/status.h"
#include "router_service/gateway/http_message.h"

namespace conclave::gateway {

struct HttpLimits {
  size_t max_header = 16 << 10;  // bytes, request line included; then 431
  size_t max_body = 8 << 20;     // bytes; then 413, before it is read
  // Unsent bytes of one stream from which on its source is paused: some 500
  // chunks.
  size_t stream_buffer = 128 << 10;
  // And beyond which, for a source that does not pause, the client is
  // disconnected.
  size_t max_unsent = 16 << 20;
  // The kernel's share of that (SO_SNDBUF; it doubles the number).
  int socket_buffer = 64 << 10;
  int max_connections = 4096;  // then 503 at once
  absl::Duration header_timeout = absl::Seconds(5);
  absl::Duration body_timeout = absl::Seconds(30);
  absl::Duration idle_timeout = absl::Seconds(75);
  absl::Duration write_stall = absl::Seconds(10);
};

struct HttpOptions {
  std::string address = "127.0.0.1:8080";  // HOST:PORT, [V6]:PORT; port 0: any
  int threads = 1;
  HttpLimits limits;
};

// True when HOST of HOST:PORT is a loopback address or "localhost".
bool IsLoopback(const std::string& address);

// Threads: all methods may run concurrently, but not on the server's threads.
class HttpServer {
 public:
  // `handler` outlives the server.
  //   INVALID_ARGUMENT  the address
  //   UNAVAILABLE       the port is taken, or may not be used
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(
      const HttpOptions& options, HttpHandler& handler);
  // Closes every connection, then stops.
  virtual ~HttpServer() = default;

  virtual int port() const = 0;
  // HOST:PORT in use.
  virtual std::string address() const = 0;
  virtual int connections() const = 0;

  // Refuses new connections, closes idle ones, lets running responses end
  // (with "connection: close") until `deadline`, then closes the rest. True
  // when none had to be cut off.
  virtual bool Drain(absl::Time deadline) = 0;
};

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_HTTP_SERVER_H_
