#include "router_service/gateway/http_connection.h"

#include <fmt/format.h>

#include <array>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>
#include <chrono>
#include <utility>

namespace conclave::gateway {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

// Pipelined requests wait in the read buffer; beyond this the watching read
// stops until the response is out.
constexpr size_t kReadBuffer = 64 << 10;
constexpr size_t kReadChunk = 4 << 10;
// After a refusal the client may still be sending. Closing at once would
// reset the connection and lose the refusal, so some of it is read and thrown
// away.
constexpr size_t kLingerBytes = 16 << 20;
constexpr absl::Duration kLingerTime = absl::Seconds(2);
// A reader must take this much in HttpLimits::write_stall; one that takes a
// little more is served for as long as its stream may last.
constexpr size_t kLeastProgress = 1 << 10;

std::string Text(beast::string_view view) {
  return std::string(view.data(), view.size());
}

}  // namespace

// Keeps the connection alive while a response is being made.
class HttpConnection::Writer final : public ResponseWriter {
 public:
  Writer(std::shared_ptr<HttpConnection> connection,
         std::shared_ptr<ResponseBuffer> buffer)
      : connection_(std::move(connection)), buffer_(std::move(buffer)) {}

  void Respond(HttpResponse response) override { buffer_->Respond(response); }
  void StartStream(HttpResponse head) override { buffer_->StartStream(head); }
  bool Write(std::string_view text) override {
    using Result = ResponseBuffer::WriteResult;
    const Result result = buffer_->Write(text);
    if (result == Result::kFilled) {
      OnStrand([](HttpConnection& c) { c.TellPressure(); });
    } else if (result == Result::kRefused) {
      OnStrand([](HttpConnection& c) { c.Close(); });
    }
    return result == Result::kOk || result == Result::kFilled;
  }
  void Finish() override { buffer_->EndStream(ResponseBuffer::End::kFinished); }
  void Abort() override { buffer_->EndStream(ResponseBuffer::End::kAborted); }
  void OnGone(std::function<void()> callback) override {
    connection_->Run(
        [c = connection_, b = buffer_, callback = std::move(callback)] {
          if (c->state_ == State::kClosed) {
            callback();
          } else if (c->response_ == b) {
            c->on_gone_ = callback;
          }
        });
  }
  void OnPressure(std::function<void(bool)> callback) override {
    OnStrand([callback = std::move(callback)](HttpConnection& c) {
      c.on_pressure_ = callback;
      if (c.told_full_) callback(true);
    });
  }
  void Post(std::function<void()> task) override {
    asio::post(connection_->socket_.get_executor(), std::move(task));
  }

 private:
  // Unless the response is over by then.
  template <typename Task>
  void OnStrand(Task task) {
    connection_->Run([c = connection_, b = buffer_, task = std::move(task)] {
      if (c->response_ == b) task(*c);
    });
  }

  const std::shared_ptr<HttpConnection> connection_;
  const std::shared_ptr<ResponseBuffer> buffer_;
};

HttpConnection::HttpConnection(Socket socket,
                               std::shared_ptr<HttpShared> shared)
    : shared_(std::move(shared)),
      socket_(std::move(socket)),
      timer_(socket_.get_executor()),
      buffer_(kReadBuffer + kReadChunk) {}

HttpConnection::~HttpConnection() {
  std::lock_guard lock(shared_->mutex);
  shared_->connections.erase(this);
}

void HttpConnection::Run(std::function<void()> task) {
  asio::dispatch(socket_.get_executor(), std::move(task));
}

void HttpConnection::Start() {
  Run([self = shared_from_this()] {
    Error ignored;
    self->socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    self->socket_.set_option(asio::socket_base::send_buffer_size(
                                 self->shared_->limits.socket_buffer),
                             ignored);
    self->socket_.set_option(asio::socket_base::keep_alive(true), ignored);
    self->ReadHeader();
  });
}

void HttpConnection::CloseWhenIdle() {
  Run([self = shared_from_this()] {
    const bool fresh = self->state_ == State::kHeader &&
                       self->buffer_.size() == 0 && !self->parser_->got_some();
    if (fresh || self->state_ == State::kIdle) self->Close();
  });
}

void HttpConnection::CloseNow() {
  Run([self = shared_from_this()] { self->Close(); });
}

// --- Reading a request -----------------------------------------------------

void HttpConnection::ReadHeader() {
  state_ = State::kHeader;
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(shared_->limits.max_header));
  parser_->body_limit(shared_->limits.max_body);
  Arm(shared_->limits.header_timeout);
  http::async_read_header(socket_, buffer_, *parser_,
                          [self = shared_from_this()](Error error, size_t) {
                            self->OnHeader(error);
                          });
}

// "" or why the message's length is in doubt. Beast itself refuses
// Content-Length together with "chunked", and two lengths that differ.
std::string HttpConnection::CheckFraming() const {
  const auto& head = parser_->get();
  const auto codings = head.equal_range(http::field::transfer_encoding);
  if (codings.first != codings.second) {
    if (std::next(codings.first) != codings.second ||
        !beast::iequals(codings.first->value(), "chunked")) {
      return "transfer-encoding must be exactly \"chunked\"";
    }
    if (head.version() < 11 || head.count(http::field::content_length) > 0) {
      return "transfer-encoding does not go with this request";
    }
  }
  if (head.count(http::field::host) > 1) return "two host headers";
  if (head.version() >= 11 && head.count(http::field::host) == 0) {
    return "the host header is missing";
  }
  if (head.version() != 10 && head.version() != 11) {
    return "only HTTP/1.0 and HTTP/1.1 are spoken here";
  }
  return "";
}

void HttpConnection::OnHeader(Error error) {
  if (state_ != State::kHeader) return;
  if (error) return BadRequest(error);
  if (const std::string why = CheckFraming(); !why.empty()) {
    return Refuse(400, "bad_http", why);
  }
  const auto& head = parser_->get();
  request_ = HttpRequest();
  request_.method = Text(head.method_string());
  const std::string target = Text(head.target());
  request_.path = target.substr(0, target.find('?'));
  request_.host = Text(head[http::field::host]);
  request_.authorization = Text(head[http::field::authorization]);
  request_.content_type = Text(head[http::field::content_type]);
  request_.request_id = Text(head["x-request-id"]);
  if (auto refusal = shared_->handler->CheckHead(request_)) {
    return RefuseWith(*refusal);
  }
  const auto length = parser_->content_length();
  if (length.has_value() && *length > shared_->limits.max_body) {
    return BadRequest(http::error::body_limit);
  }
  if (beast::iequals(head[http::field::expect], "100-continue")) {
    static constexpr char kContinue[] = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(socket_, asio::buffer(kContinue, sizeof(kContinue) - 1),
                      [self = shared_from_this()](Error failed, size_t) {
                        if (self->state_ != State::kHeader) return;
                        if (failed) return self->Close();
                        self->ReadBody();
                      });
    return;
  }
  ReadBody();
}

void HttpConnection::ReadBody() {
  state_ = State::kBody;
  if (parser_->is_done()) return Dispatch();
  Arm(shared_->limits.body_timeout);
  http::async_read(socket_, buffer_, *parser_,
                   [self = shared_from_this()](Error error, size_t) {
                     self->OnBody(error);
                   });
}

void HttpConnection::OnBody(Error error) {
  if (state_ != State::kBody) return;
  if (error) return BadRequest(error);
  Dispatch();
}

void HttpConnection::BadRequest(Error error) {
  if (timed_out_) {
    // Nothing was sent at all: nobody to tell.
    if (state_ == State::kHeader && buffer_.size() == 0 &&
        !parser_->got_some()) {
      return Close();
    }
    return Refuse(408, "request_timeout", "the request came too slowly");
  }
  if (error == http::error::header_limit) {
    return Refuse(
        431, "header_too_large",
        fmt::format("the header is over {} bytes", shared_->limits.max_header));
  }
  if (error == http::error::body_limit) {
    return Refuse(
        413, "body_too_large",
        fmt::format("the body is over {} bytes", shared_->limits.max_body));
  }
  // Beast's own errors are the client's grammar; others are the network's.
  if (error == http::error::end_of_stream ||
      error == http::error::partial_message ||
      error.category() !=
          http::make_error_code(http::error::bad_method).category()) {
    return Close();
  }
  Refuse(400, "bad_http", "the request is not well-formed HTTP");
}

void HttpConnection::Refuse(int status, std::string_view code,
                            std::string_view message) {
  RefuseWith(shared_->handler->Error(status, code, message));
}

void HttpConnection::RefuseWith(const HttpResponse& response) {
  BeginResponse(/*keep_alive=*/false);
  response_->Respond(response);
}

void HttpConnection::Dispatch() {
  request_.body = std::move(parser_->get().body());
  BeginResponse(parser_->get().keep_alive() && !shared_->draining);
  Watch();
  auto writer = std::make_shared<Writer>(shared_from_this(), response_);
  shared_->handler->Handle(std::move(request_), std::move(writer));
}

// --- Answering -------------------------------------------------------------

void HttpConnection::BeginResponse(bool keep_alive) {
  Disarm();
  state_ = State::kAnswering;
  ResponseFraming framing;
  if (parser_.has_value() && parser_->is_header_done()) {
    framing.http_10 = parser_->get().version() < 11;
    framing.head_only = parser_->get().method() == http::verb::head;
  }
  framing.keep_alive = keep_alive;
  response_ = std::make_shared<ResponseBuffer>(
      framing, shared_->limits.stream_buffer, shared_->limits.max_unsent,
      [weak = weak_from_this(), executor = socket_.get_executor()] {
        asio::dispatch(executor, [weak] {
          if (auto self = weak.lock()) self->Pump();
        });
      });
}

void HttpConnection::Watch() {
  if (buffer_.size() + kReadChunk > kReadBuffer) return;
  watching_ = true;
  socket_.async_read_some(buffer_.prepare(kReadChunk),
                          [self = shared_from_this()](Error error, size_t n) {
                            self->OnWatch(error, n);
                          });
}

void HttpConnection::OnWatch(Error error, size_t n) {
  watching_ = false;
  buffer_.commit(n);
  if (state_ == State::kIdle) {
    // The next request begins, or was cut short by NextRequest.
    if (!error || (error == asio::error::operation_aborted && !timed_out_)) {
      return ReadHeader();
    }
    return Close();
  }
  if (state_ != State::kAnswering) return;
  if (error) return Close();
  Watch();
}

void HttpConnection::Pump() {
  if (state_ != State::kAnswering || sent_ < sending_.size()) return;
  ResponseBuffer::Taken taken = response_->Take();
  if (taken.bytes.empty()) {
    Disarm();
    if (taken.end != ResponseBuffer::End::kOpen) OnResponseDone();
    return;
  }
  sending_ = std::move(taken.bytes);
  sent_ = 0;
  SendSome();
}

void HttpConnection::SendSome() {
  // A reader of one byte now and then is as good as a stalled one.
  if (sent_ == 0 || sent_ - sent_when_armed_ >= kLeastProgress) {
    Arm(shared_->limits.write_stall);
    sent_when_armed_ = sent_;
  }
  socket_.async_write_some(
      asio::buffer(sending_.data() + sent_, sending_.size() - sent_),
      [self = shared_from_this()](Error error, size_t n) {
        if (self->state_ != State::kAnswering) return;
        if (error) return self->Close();
        self->sent_ += n;
        self->response_->Sent(n);
        self->TellPressure();
        if (self->sent_ < self->sending_.size()) return self->SendSome();
        self->Pump();
      });
}

void HttpConnection::TellPressure() {
  const bool full = response_->full();
  if (full == told_full_) return;
  told_full_ = full;
  if (on_pressure_) on_pressure_(full);
}

void HttpConnection::OnResponseDone() {
  const bool keep_alive = response_->keep_alive() && !shared_->draining;
  on_gone_ = nullptr;
  on_pressure_ = nullptr;
  told_full_ = false;
  response_.reset();
  sending_.clear();
  sent_ = 0;
  if (keep_alive) {
    NextRequest();
  } else {
    Linger();
  }
}

void HttpConnection::NextRequest() {
  state_ = State::kIdle;
  timed_out_ = false;
  if (!watching_) return ReadHeader();
  if (buffer_.size() > 0) {
    // A pipelined request is here already: end the pending read first.
    Error ignored;
    socket_.cancel(ignored);
    return;
  }
  Arm(shared_->limits.idle_timeout);
}

// --- Ending ----------------------------------------------------------------

void HttpConnection::Linger() {
  Error ignored;
  state_ = State::kLinger;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  socket_.cancel(ignored);
  buffer_.consume(buffer_.size());
  Arm(kLingerTime);
  // After the cancelled read has come back: two must not share the buffer.
  asio::post(socket_.get_executor(),
             [self = shared_from_this()] { self->Discard(); });
}

void HttpConnection::Discard() {
  if (state_ != State::kLinger) return;
  if (lingered_ > kLingerBytes) return Close();
  auto sink = std::make_shared<std::array<char, 16 << 10>>();
  socket_.async_read_some(asio::buffer(*sink), [self = shared_from_this(),
                                                sink](Error error, size_t n) {
    if (error) return self->Close();
    self->lingered_ += n;
    self->Discard();
  });
}

void HttpConnection::Close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  Disarm();
  Error ignored;
  socket_.close(ignored);
  if (response_ != nullptr) response_->SetGone();
  response_.reset();
  on_pressure_ = nullptr;
  if (auto gone = std::exchange(on_gone_, nullptr)) gone();
}

// --- Time ------------------------------------------------------------------

void HttpConnection::Arm(absl::Duration timeout) {
  const uint64_t round = ++timer_round_;
  timed_out_ = false;
  timer_.expires_after(absl::ToChronoNanoseconds(timeout));
  timer_.async_wait([weak = weak_from_this(), round](Error error) {
    const auto self = weak.lock();
    // The round tells a timer that fired just before it was set anew.
    if (self == nullptr || error || round != self->timer_round_) return;
    self->OnTimeout();
  });
}

void HttpConnection::Disarm() {
  ++timer_round_;
  timer_.cancel();
}

void HttpConnection::OnTimeout() {
  if (state_ == State::kHeader || state_ == State::kBody) {
    timed_out_ = true;
    Error ignored;
    socket_.cancel(ignored);  // OnHeader or OnBody answers.
    return;
  }
  Close();
}

}  // namespace conclave::gateway
