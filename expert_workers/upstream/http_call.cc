#include "expert_workers/upstream/http_call.h"

#include <absl/time/clock.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http.hpp>
#include <condition_variable>
#include <exception>
#include <thread>
#include <vector>

#include "expert_workers/upstream/answer_reader.h"
#include "expert_workers/upstream/http_connection.h"

namespace conclave::upstream {
namespace {

namespace http = beast::http;

// An awaited operation gives its error as a value.
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

// An error page's first bytes say why; the rest is not read.
constexpr size_t kMaxErrorBody = size_t{64} << 10;
constexpr size_t kReadBytes = size_t{16} << 10;
// How long the end of a complete answer is waited for, to keep the connection.
constexpr auto kTail = std::chrono::seconds(1);

std::string Reason(const error_code& ec) {
  if (ec == asio::error::eof || ec == ssl::error::stream_truncated ||
      ec == http::error::end_of_stream || ec == asio::error::connection_reset ||
      ec == http::error::partial_message || ec == asio::error::broken_pipe) {
    return "it closed the connection early";
  }
  if (ec == http::error::header_limit) return "its header is too long";
  if (ec == http::error::body_limit) return "its answer is too long";
  if (ec.category() ==
      http::make_error_code(http::error::bad_method).category()) {
    return "what it sends is not HTTP (" + ec.message() + ")";
  }
  return ec.message();
}

absl::Status NetworkError(std::string_view doing, const error_code& ec) {
  return Unavailable("cannot {}: {}", doing, Reason(ec));
}

class Call final : public std::enable_shared_from_this<Call> {
 public:
  Call(Shared& shared, HttpCallRequest request, HttpCallbacks callbacks)
      : shared_(shared),
        request_(std::move(request)),
        callbacks_(std::move(callbacks)),
        strand_(asio::make_strand(shared.io)),
        resolver_(strand_),
        watchdog_(strand_),
        resumed_(strand_) {}

  void Start() {
    asio::co_spawn(
        strand_, [self = shared_from_this()] { return self->Run(); },
        [self = shared_from_this()](std::exception_ptr error) {
          // Only memory can run out here; everything else is an error code.
          if (error) self->Finish(Internal("the call could not be run"));
        });
  }

  void Cancel() {
    asio::post(strand_, [self = shared_from_this()] {
      self->Finish(Cancelled("the request was cancelled"));
    });
  }

  void SetPaused(bool paused) {
    paused_ = paused;
    if (paused) return;
    asio::post(strand_,
               [self = shared_from_this()] { self->resumed_.cancel(); });
  }

  void Wait() {
    if (done_thread_ == std::this_thread::get_id()) return;
    std::unique_lock lock(mutex_);
    done_cv_.wait(lock, [this] { return done_; });
  }

 private:
  // --- everything below runs on the strand ---

  bool finished() const { return finishing_; }

  // The one end. Later ends are ignored.
  void Finish(absl::Status status) {
    if (finishing_) return;
    finishing_ = true;
    watchdog_.cancel();
    resumed_.cancel();
    resolver_.cancel();
    if (connection_ != nullptr) connection_->Close();
    done_thread_ = std::this_thread::get_id();
    callbacks_.on_done(
        Annotate(status, "endpoint " + request_.url.Authority()));
    callbacks_ = {};
    // Last: whoever waits may take what the callbacks refer to away.
    {
      std::lock_guard lock(mutex_);
      done_thread_ = std::thread::id();
      done_ = true;
    }
    done_cv_.notify_all();
  }

  // From now on this phase may take `limit`, and all of them the deadline.
  void Watch(absl::Duration limit, const char* phase) {
    const absl::Duration left = request_.deadline - absl::Now();
    const bool is_deadline = left <= limit;
    const absl::Duration wait = std::max(
        absl::ZeroDuration(), std::min({left, limit, absl::Hours(24 * 365)}));
    const uint64_t watch = ++watch_;
    watchdog_.expires_after(absl::ToChronoNanoseconds(wait));
    watchdog_.async_wait([self = shared_from_this(), watch, is_deadline, limit,
                          phase](const error_code& ec) {
      if (ec || watch != self->watch_) return;
      self->Finish(is_deadline
                       ? DeadlineExceeded(
                             "the deadline passed before it could {}", phase)
                       : DeadlineExceeded("it took over {} s to {}",
                                          absl::ToDoubleSeconds(limit), phase));
    });
  }

  std::string PoolKey() const {
    return fmt::format("{}{}:{}",
                       !request_.url.tls   ? "http://"
                       : request_.insecure ? "insecure://"
                                           : "https://",
                       request_.url.host, request_.url.port);
  }

  asio::awaitable<void> Run() {
    connection_ = shared_.pool.Take(PoolKey());
    while (!finished()) {
      if (connection_ == nullptr) co_await Connect();
      if (finished()) co_return;
      const bool reused = connection_->reused;
      answered_ = keep_alive_ = false;
      absl::Status status;
      if (connection_->tls) {
        status = co_await Exchange(*connection_->tls);
      } else {
        status = co_await Exchange(connection_->socket);
      }
      if (finished()) co_return;
      // The server may have closed an idle connection just as we used it:
      // nothing was answered, so a fresh one may try.
      if (!status.ok() && reused && !answered_) {
        connection_->Close();
        connection_ = nullptr;
        continue;
      }
      if (keep_alive_) {
        shared_.pool.Give(PoolKey(), std::exchange(connection_, nullptr));
      }
      Finish(status);
    }
  }

  asio::awaitable<void> Connect() {
    Watch(shared_.options.connect_timeout, "connect");
    const Url& url = request_.url;
    std::vector<tcp::endpoint> endpoints;
    error_code ec;
    const auto address = asio::ip::make_address(url.host, ec);
    const bool is_address = !ec;
    if (is_address) {
      endpoints.emplace_back(address, url.port);
    } else {
      auto [resolve_error, results] = co_await resolver_.async_resolve(
          url.host, std::to_string(url.port), kAwait);
      if (finished()) co_return;
      if (resolve_error) {
        Finish(NetworkError("resolve its name", resolve_error));
        co_return;
      }
      for (const auto& result : results) endpoints.push_back(result);
    }
    if (url.tls) {
      connection_ = std::make_shared<Connection>(
          shared_.io, request_.insecure ? shared_.trusting : shared_.verifying);
    } else {
      connection_ = std::make_shared<Connection>(shared_.io);
    }
    auto [connect_error, peer] =
        co_await asio::async_connect(connection_->lowest(), endpoints, kAwait);
    if (finished()) co_return;
    if (connect_error) {
      Finish(NetworkError("connect", connect_error));
      co_return;
    }
    connection_->lowest().set_option(tcp::no_delay(true), ec);
    if (url.tls) co_await Handshake(is_address);
  }

  asio::awaitable<void> Handshake(bool is_address) {
    auto& tls = *connection_->tls;
    const std::string& host = request_.url.host;
    // An address has no server name to ask for.
    if (!is_address) {
      SSL_set_tlsext_host_name(tls.native_handle(), host.c_str());
    }
    if (!request_.insecure) {
      X509_VERIFY_PARAM* const verify = SSL_get0_param(tls.native_handle());
      const int set =
          is_address
              ? X509_VERIFY_PARAM_set1_ip_asc(verify, host.c_str())
              : X509_VERIFY_PARAM_set1_host(verify, host.c_str(), host.size());
      if (set != 1) {
        Finish(Internal("the host name could not be set for verification"));
        co_return;
      }
    }
    auto [ec] = co_await tls.async_handshake(ssl::stream_base::client, kAwait);
    if (finished() || !ec) co_return;
    const long verdict = SSL_get_verify_result(tls.native_handle());
    if (!request_.insecure && verdict != X509_V_OK) {
      Finish(Unavailable("its certificate is refused: {}",
                         X509_verify_cert_error_string(verdict)));
    } else {
      Finish(NetworkError("open TLS", ec));
    }
  }

  template <typename Stream>
  asio::awaitable<absl::Status> Exchange(Stream& stream) {
    Watch(shared_.options.first_byte_timeout, "answer");
    http::request<http::string_body> request(
        http::verb::post, request_.url.path, 11, request_.body);
    request.set(http::field::host, request_.url.Authority());
    request.set(http::field::content_type, "application/json");
    request.set(http::field::accept, request_.accept);
    request.set(http::field::user_agent, "conclave");
    if (!request_.api_key.empty()) {
      request.set(http::field::authorization, "Bearer " + request_.api_key);
    }
    request.prepare_payload();
    auto [write_error, written] =
        co_await http::async_write(stream, request, kAwait);
    if (finished()) co_return absl::OkStatus();
    // A server may answer (413, 401) and close before it has read everything:
    // its answer says more than the broken pipe does.
    http::response_parser<http::buffer_body> parser;
    parser.header_limit(
        static_cast<uint32_t>(shared_.options.max_header_bytes));
    parser.body_limit(shared_.options.max_response_bytes);
    auto [header_error, header_bytes] = co_await http::async_read_header(
        stream, connection_->buffer, parser, kAwait);
    if (finished()) co_return absl::OkStatus();
    if (header_error) {
      co_return write_error ? NetworkError("send the request", write_error)
                            : NetworkError("read its answer", header_error);
    }
    answered_ = true;
    const int code = static_cast<int>(parser.get().result_int());
    if (code != 200) {
      const std::string body = co_await ReadErrorBody(stream, parser);
      co_return ErrorFromHttp(code, body);
    }
    const auto type = parser.get()[http::field::content_type];
    if (!beast::iequals(type.substr(0, request_.accept.size()),
                        request_.accept)) {
      co_return Unavailable("it answers with '{}' instead of '{}'",
                            Printable(type), request_.accept);
    }
    co_return co_await ReadBody(stream, parser);
  }

  static std::string Printable(std::string_view text) {
    std::string out(text.substr(0, 80));
    std::erase_if(out, [](char c) { return c < ' ' || c > '~'; });
    return out;
  }

  template <typename Stream>
  asio::awaitable<std::string> ReadErrorBody(
      Stream& stream, http::response_parser<http::buffer_body>& parser) {
    std::string body;
    std::vector<char> bytes(kReadBytes);
    while (!parser.is_done() && body.size() < kMaxErrorBody) {
      Watch(shared_.options.idle_timeout, "say what is wrong");
      auto [ec, got] = co_await ReadSome(stream, parser, bytes);
      if (finished() || ec) break;
      body.append(bytes.data(), got);
    }
    NoteKeepAlive(parser, *connection_);
    co_return body;
  }

  using ReadResult = std::pair<error_code, size_t>;

  // The next bytes of the body; none and no error at its end.
  template <typename Stream>
  asio::awaitable<ReadResult> ReadSome(
      Stream& stream, http::response_parser<http::buffer_body>& parser,
      std::vector<char>& bytes) {
    auto& body = parser.get().body();
    body.data = bytes.data();
    body.size = bytes.size();
    body.more = true;
    // Keeps the buffer alive should this call end before the read does.
    const std::shared_ptr<Connection> connection = connection_;
    auto [ec, transferred] = co_await http::async_read_some(
        stream, connection->buffer, parser, kAwait);
    if (ec == http::error::need_buffer) ec = {};
    co_return ReadResult(ec, bytes.size() - body.size);
  }

  template <typename Stream>
  asio::awaitable<absl::Status> ReadBody(
      Stream& stream, http::response_parser<http::buffer_body>& parser) {
    std::vector<char> bytes(kReadBytes);
    absl::Duration patience = shared_.options.first_byte_timeout;
    while (!parser.is_done()) {
      co_await WaitWhilePaused();
      if (finished()) co_return absl::OkStatus();
      Watch(patience, "go on");
      auto [ec, got] = co_await ReadSome(stream, parser, bytes);
      if (finished()) co_return absl::OkStatus();
      if (got > 0) {
        patience = shared_.options.idle_timeout;
        absl::Status status =
            callbacks_.on_body(std::string_view(bytes.data(), got));
        if (!status.ok()) co_return status;
      }
      if (callbacks_.is_complete()) break;
      if (ec) co_return NetworkError("read its answer", ec);
    }
    if (!parser.is_done()) co_await FinishThenReadTail(stream, parser);
    NoteKeepAlive(parser, *connection_);
    co_return absl::OkStatus();
  }

  // The caller has all it needs and must not wait; the bytes that end the
  // message are on their way, and with them the connection can be kept.
  template <typename Stream>
  asio::awaitable<void> FinishThenReadTail(
      Stream& stream, http::response_parser<http::buffer_body>& parser) {
    const std::shared_ptr<Connection> connection =
        std::exchange(connection_, nullptr);
    Finish(absl::OkStatus());
    watchdog_.expires_after(kTail);
    watchdog_.async_wait([connection](const error_code& ec) {
      if (!ec) connection->Close();
    });
    connection_ = connection;
    std::vector<char> bytes(kReadBytes);
    while (!parser.is_done()) {
      auto [ec, got] = co_await ReadSome(stream, parser, bytes);
      if (ec) break;
    }
    watchdog_.cancel();
    NoteKeepAlive(parser, *connection);
    if (keep_alive_) shared_.pool.Give(PoolKey(), connection);
  }

  void NoteKeepAlive(const http::response_parser<http::buffer_body>& parser,
                     const Connection& connection) {
    keep_alive_ = parser.is_done() && parser.keep_alive() &&
                  connection.buffer.size() == 0;
  }

  asio::awaitable<void> WaitWhilePaused() {
    while (paused_ && !finished()) {
      Watch(absl::InfiniteDuration(), "go on");
      resumed_.expires_at(SteadyTime::max());
      co_await resumed_.async_wait(kAwait);
    }
  }

  Shared& shared_;
  const HttpCallRequest request_;
  HttpCallbacks callbacks_;
  asio::strand<asio::io_context::executor_type> strand_;
  tcp::resolver resolver_;
  asio::steady_timer watchdog_;  // ends the call when a phase takes too long
  asio::steady_timer resumed_;   // never fires: cancelled by Resume
  uint64_t watch_ = 0;           // which phase the watchdog is for
  std::shared_ptr<Connection> connection_;
  bool finishing_ = false;
  bool answered_ = false;    // a response header has come
  bool keep_alive_ = false;  // the connection is clean behind the answer
  std::atomic<bool> paused_ = false;

  std::mutex mutex_;
  std::condition_variable done_cv_;
  bool done_ = false;
  std::atomic<std::thread::id> done_thread_{};  // inside on_done
};

class Handle final : public HttpCall {
 public:
  explicit Handle(std::shared_ptr<Call> call) : call_(std::move(call)) {}
  ~Handle() override {
    call_->Cancel();
    call_->Wait();
  }
  void Cancel() override { call_->Cancel(); }
  void Pause() override { call_->SetPaused(true); }
  void Resume() override { call_->SetPaused(false); }

 private:
  const std::shared_ptr<Call> call_;
};

class Engine final : public HttpEngine {
 public:
  explicit Engine(UpstreamOptions options)
      : shared_(std::move(options)), work_(asio::make_work_guard(shared_.io)) {}

  ~Engine() override {
    shared_.io.stop();
    for (std::thread& thread : threads_) thread.join();
  }

  absl::Status Initialise() {
    error_code ec;
    for (ssl::context* context : {&shared_.verifying, &shared_.trusting}) {
      SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
    }
    shared_.trusting.set_verify_mode(ssl::verify_none, ec);
    shared_.verifying.set_verify_mode(ssl::verify_peer, ec);
    shared_.verifying.set_default_verify_paths(ec);
    const std::string& file = shared_.options.ca_file;
    if (!file.empty()) {
      shared_.verifying.load_verify_file(file, ec);
      if (ec) {
        return InvalidArgument("cannot read certificates from {}: {}", file,
                               ec.message());
      }
    }
    for (int i = 0; i < std::max(1, shared_.options.threads); ++i) {
      threads_.emplace_back([this] { shared_.io.run(); });
    }
    return absl::OkStatus();
  }

  std::unique_ptr<HttpCall> Start(HttpCallRequest request,
                                  HttpCallbacks callbacks) override {
    auto call = std::make_shared<Call>(shared_, std::move(request),
                                       std::move(callbacks));
    call->Start();
    return std::make_unique<Handle>(std::move(call));
  }

 private:
  Shared shared_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::vector<std::thread> threads_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpEngine>> HttpEngine::Create(
    UpstreamOptions options) {
  auto engine = std::make_unique<Engine>(std::move(options));
  RETURN_IF_ERROR(engine->Initialise());
  return std::unique_ptr<HttpEngine>(std::move(engine));
}

}  // namespace conclave::upstream
