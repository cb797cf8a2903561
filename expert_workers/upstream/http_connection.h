// Connections, and what calls share. For http_call.cc alone: it holds Asio.
#ifndef CONCLAVE_EXPERT_WORKERS_UPSTREAM_HTTP_CONNECTION_H_
#define CONCLAVE_EXPERT_WORKERS_UPSTREAM_HTTP_CONNECTION_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <chrono>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "expert_workers/upstream/client.h"

namespace conclave::upstream {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace ssl = asio::ssl;
using asio::ip::tcp;
using boost::system::error_code;
using SteadyTime = std::chrono::steady_clock::time_point;

// A TCP connection, perhaps under TLS, with what was read ahead of its use.
struct Connection {
  explicit Connection(asio::io_context& io) : socket(io) {}
  Connection(asio::io_context& io, ssl::context& context)
      : socket(io), tls(std::in_place, io, context) {}

  tcp::socket& lowest() { return tls ? tls->next_layer() : socket; }
  void Close() {
    error_code ignored;
    lowest().close(ignored);
  }

  tcp::socket socket;  // unused under TLS
  std::optional<ssl::stream<tcp::socket>> tls;
  beast::flat_buffer buffer;
  bool reused = false;
  SteadyTime idle_since;
};

// Idle connections by origin. Bounded for each; the oldest goes first.
// Threads: all methods may run concurrently.
class ConnectionPool {
 public:
  ConnectionPool(size_t capacity, absl::Duration max_idle)
      : capacity_(capacity), max_idle_(absl::ToChronoNanoseconds(max_idle)) {}

  std::shared_ptr<Connection> Take(const std::string& key) {
    std::lock_guard lock(mutex_);
    auto& idle = idle_[key];
    DropOld(idle);
    if (idle.empty()) return nullptr;
    std::shared_ptr<Connection> connection = std::move(idle.back());
    idle.pop_back();
    connection->reused = true;
    return connection;
  }

  void Give(const std::string& key, std::shared_ptr<Connection> connection) {
    connection->idle_since = std::chrono::steady_clock::now();
    std::lock_guard lock(mutex_);
    auto& idle = idle_[key];
    DropOld(idle);
    if (capacity_ == 0) return;
    if (idle.size() >= capacity_) idle.pop_front();
    idle.push_back(std::move(connection));
  }

 private:
  void DropOld(std::deque<std::shared_ptr<Connection>>& idle) const {
    const SteadyTime oldest = std::chrono::steady_clock::now() - max_idle_;
    while (!idle.empty() && idle.front()->idle_since < oldest) {
      idle.pop_front();
    }
  }

  const size_t capacity_;
  const std::chrono::nanoseconds max_idle_;
  std::mutex mutex_;
  std::map<std::string, std::deque<std::shared_ptr<Connection>>> idle_;
};

// What calls borrow from the engine.
struct Shared {
  explicit Shared(UpstreamOptions o)
      : options(std::move(o)),
        pool(options.max_idle_connections, options.max_idle_time) {}

  UpstreamOptions options;
  asio::io_context io;
  ssl::context verifying{ssl::context::tls_client};
  ssl::context trusting{ssl::context::tls_client};
  ConnectionPool pool;
};

}  // namespace conclave::upstream

#endif  // CONCLAVE_EXPERT_WORKERS_UPSTREAM_HTTP_CONNECTION_H_
