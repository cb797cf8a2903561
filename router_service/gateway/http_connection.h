// One client connection: reads requests one after another, hands each to the
// handler, sends its response. See the states in http_server.h.
//
// Everything here runs on the connection's strand, except what ResponseBuffer
// makes safe. While a response is being made, a read stays pending, so that
// a client that leaves is noticed at once; what it reads (pipelined requests)
// waits in the buffer. A client that only half-closes counts as gone, as with
// other servers that watch for it: the two cannot be told apart.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_HTTP_CONNECTION_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_HTTP_CONNECTION_H_

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "router_service/gateway/http_server.h"
#include "router_service/gateway/response_buffer.h"

namespace conclave::gateway {

class HttpConnection;

// What the connections of one server share; outlives each of them.
struct HttpShared {
  HttpLimits limits;
  HttpHandler* handler = nullptr;
  std::atomic<bool> draining{false};

  std::mutex mutex;
  std::map<HttpConnection*, std::weak_ptr<HttpConnection>> connections;
};

class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  using Strand = boost::asio::strand<boost::asio::io_context::executor_type>;
  using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, Strand>;

  HttpConnection(Socket socket, std::shared_ptr<HttpShared> shared);
  ~HttpConnection();
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  // Any thread.
  void Start();
  void CloseWhenIdle();
  void CloseNow();
  // On the strand, one at a time.
  void Run(std::function<void()> task);

 private:
  class Writer;
  using Error = boost::system::error_code;
  enum class State { kIdle, kHeader, kBody, kAnswering, kLinger, kClosed };

  void ReadHeader();
  void OnHeader(Error error);
  void ReadBody();
  void OnBody(Error error);
  void Dispatch();
  void BadRequest(Error error);
  void Refuse(int status, std::string_view code, std::string_view message);
  void RefuseWith(const HttpResponse& response);
  std::string CheckFraming() const;

  void BeginResponse(bool keep_alive);
  void Watch();
  void OnWatch(Error error, size_t n);
  void Pump();
  void SendSome();
  void TellPressure();
  void OnResponseDone();
  void NextRequest();
  void Linger();
  void Discard();
  void Close();

  void Arm(absl::Duration timeout);
  void Disarm();
  void OnTimeout();

  const std::shared_ptr<HttpShared> shared_;
  Socket socket_;
  boost::asio::steady_timer timer_;
  uint64_t timer_round_ = 0;
  boost::beast::flat_buffer buffer_;
  std::optional<
      boost::beast::http::request_parser<boost::beast::http::string_body>>
      parser_;
  HttpRequest request_;
  State state_ = State::kIdle;
  bool timed_out_ = false;
  bool watching_ = false;  // a read is pending beside the response
  size_t lingered_ = 0;    // bytes thrown away
  std::shared_ptr<ResponseBuffer> response_;
  std::function<void()> on_gone_;
  std::function<void(bool full)> on_pressure_;
  bool told_full_ = false;
  std::string sending_;
  size_t sent_ = 0;
  size_t sent_when_armed_ = 0;
};

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_HTTP_CONNECTION_H_
