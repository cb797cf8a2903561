#include "router_service/gateway/http_server.h"

#include <absl/time/clock.h>
#include <spdlog/spdlog.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <charconv>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "router_service/gateway/http_connection.h"

namespace conclave::gateway {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Error = boost::system::error_code;

struct HostPort {
  std::string host;
  uint16_t port = 0;
};

absl::StatusOr<HostPort> Split(const std::string& address) {
  const auto bad = [&] {
    return InvalidArgument(
        "\"{}\" is not HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080",
        address);
  };
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return bad();
  HostPort parts;
  parts.host = address.substr(0, colon);
  if (parts.host.size() > 2 && parts.host.front() == '[' &&
      parts.host.back() == ']') {
    parts.host = parts.host.substr(1, parts.host.size() - 2);
  }
  const char* end = address.data() + address.size();
  const auto parsed =
      std::from_chars(address.data() + colon + 1, end, parts.port);
  if (parsed.ec != std::errc() || parsed.ptr != end) return bad();
  if (parts.host.empty()) return bad();
  return parts;
}

absl::StatusOr<tcp::endpoint> Resolve(asio::io_context& io,
                                      const std::string& address) {
  ASSIGN_OR_RETURN(const HostPort parts, Split(address));
  Error error;
  const auto literal = asio::ip::make_address(parts.host, error);
  if (!error) return tcp::endpoint(literal, parts.port);
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(tcp::v4(), parts.host,
                                      std::to_string(parts.port), error);
  if (error || found.empty()) {
    return InvalidArgument("no address is known for host \"{}\"", parts.host);
  }
  return found.begin()->endpoint();
}

class ServerImpl final : public HttpServer {
 public:
  ServerImpl(const HttpOptions& options, HttpHandler& handler)
      : options_(options),
        io_(options.threads),
        work_(asio::make_work_guard(io_)),
        acceptor_(asio::make_strand(io_)),
        retry_(acceptor_.get_executor()),
        shared_(std::make_shared<HttpShared>()) {
    shared_->limits = options.limits;
    shared_->handler = &handler;
  }

  ~ServerImpl() override {
    Drain(absl::InfinitePast());
    work_.reset();
    io_.stop();
    for (std::thread& thread : threads_) thread.join();
  }

  absl::Status Listen() {
    ASSIGN_OR_RETURN(const tcp::endpoint endpoint,
                     Resolve(io_, options_.address));
    Error error;
    acceptor_.open(endpoint.protocol(), error);
    if (!error) {
      acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    }
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(1024, error);
    if (error == asio::error::address_in_use) {
      return Unavailable(
          "{} is taken by another program; choose another with --http "
          "HOST:PORT",
          options_.address);
    }
    if (error) {
      return Unavailable("cannot listen on {}: {}", options_.address,
                         error.message());
    }
    const tcp::endpoint local = acceptor_.local_endpoint(error);
    port_ = local.port();
    address_ = local.address().is_v6()
                   ? fmt::format("[{}]:{}", local.address().to_string(), port_)
                   : fmt::format("{}:{}", local.address().to_string(), port_);
    asio::post(acceptor_.get_executor(), [this] { Accept(); });
    for (int i = 0; i < options_.threads; ++i) {
      threads_.emplace_back([this] { io_.run(); });
    }
    return absl::OkStatus();
  }

  int port() const override { return port_; }
  std::string address() const override { return address_; }
  int connections() const override {
    std::lock_guard lock(shared_->mutex);
    return static_cast<int>(shared_->connections.size());
  }

  bool Drain(absl::Time deadline) override {
    shared_->draining = true;
    asio::post(acceptor_.get_executor(), [this] {
      Error ignored;
      acceptor_.close(ignored);
    });
    for (const auto& connection : Connections()) connection->CloseWhenIdle();
    bool clean = true;
    while (connections() > 0) {
      if (absl::Now() >= deadline) {
        clean = false;
        for (const auto& connection : Connections()) connection->CloseNow();
        break;
      }
      // A connection that was between two states is idle by the next look.
      absl::SleepFor(absl::Milliseconds(10));
      for (const auto& connection : Connections()) {
        connection->CloseWhenIdle();
      }
    }
    return clean;
  }

 private:
  std::vector<std::shared_ptr<HttpConnection>> Connections() {
    std::vector<std::shared_ptr<HttpConnection>> all;
    std::lock_guard lock(shared_->mutex);
    for (const auto& [raw, weak] : shared_->connections) {
      if (auto strong = weak.lock()) all.push_back(std::move(strong));
    }
    return all;
  }

  void Accept() {
    acceptor_.async_accept(asio::make_strand(io_.get_executor()),
                           [this](Error error, HttpConnection::Socket socket) {
                             if (shared_->draining) return;
                             if (error == asio::error::operation_aborted)
                               return;
                             if (error) return AcceptLater(error);
                             Admit(std::move(socket));
                             Accept();
                           });
  }

  // Out of descriptors, most likely: trying again at once would spin.
  void AcceptLater(Error error) {
    spdlog::warn("http: accept failed: {}", error.message());
    retry_.expires_after(std::chrono::milliseconds(100));
    retry_.async_wait([this](Error stopped) {
      if (!stopped) Accept();
    });
  }

  void Admit(HttpConnection::Socket socket) {
    if (connections() >= options_.limits.max_connections) {
      Turn(std::move(socket));
      return;
    }
    auto connection =
        std::make_shared<HttpConnection>(std::move(socket), shared_);
    {
      std::lock_guard lock(shared_->mutex);
      shared_->connections.emplace(connection.get(), connection);
    }
    connection->Start();
  }

  // Says no in one packet and hangs up; reads nothing.
  void Turn(HttpConnection::Socket socket) {
    const HttpResponse response = shared_->handler->Error(
        503, "too_many_connections", "too many connections; try again soon");
    ResponseFraming framing;
    framing.keep_alive = false;
    ResponseBuffer buffer(framing, 0, 0, [] {});
    buffer.Respond(response);
    const std::string bytes = buffer.Take().bytes;
    Error ignored;
    socket.non_blocking(true, ignored);
    socket.write_some(asio::buffer(bytes), ignored);
    socket.shutdown(tcp::socket::shutdown_send, ignored);
  }

  const HttpOptions options_;
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::basic_socket_acceptor<tcp, HttpConnection::Strand> acceptor_;
  asio::basic_waitable_timer<std::chrono::steady_clock,
                             asio::wait_traits<std::chrono::steady_clock>,
                             HttpConnection::Strand>
      retry_;
  const std::shared_ptr<HttpShared> shared_;
  std::vector<std::thread> threads_;
  int port_ = 0;
  std::string address_;
};

}  // namespace

bool IsLoopback(const std::string& address) {
  const auto parts = Split(address);
  if (!parts.ok()) return false;
  if (parts->host == "localhost") return true;
  Error error;
  const auto literal = asio::ip::make_address(parts->host, error);
  return !error && literal.is_loopback();
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    const HttpOptions& options, HttpHandler& handler) {
  if (options.threads < 1 || options.threads > 64) {
    return InvalidArgument("threads is {}; it must be 1..64", options.threads);
  }
  auto server = std::make_unique<ServerImpl>(options, handler);
  RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace conclave::gateway
