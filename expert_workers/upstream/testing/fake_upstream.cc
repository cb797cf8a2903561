#include "expert_workers/upstream/testing/fake_upstream.h"

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <mutex>
#include <thread>

#include "base/check.h"

namespace conclave::upstream {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace ssl = asio::ssl;
using asio::ip::tcp;

constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

class ScriptedUpstream final : public FakeUpstream {
 public:
  ScriptedUpstream(Script script, const TestCertificate* certificate)
      : script_(std::move(script)),
        is_tls_(certificate != nullptr),
        acceptor_(io_, tcp::endpoint(asio::ip::address_v4::loopback(), 0)) {
    if (is_tls_) {
      const std::string& cert = certificate->certificate_pem;
      const std::string& key = certificate->key_pem;
      context_.use_certificate_chain(asio::buffer(cert));
      context_.use_private_key(asio::buffer(key), ssl::context::pem);
    }
    asio::co_spawn(io_, Accept(), asio::detached);
    thread_ = std::thread([this] { io_.run(); });
  }
  ~ScriptedUpstream() override {
    io_.stop();
    thread_.join();
  }

  int port() const override { return acceptor_.local_endpoint().port(); }
  bool is_tls() const override { return is_tls_; }
  int num_connections() const override { return accepted_; }
  int num_open() const override { return open_; }
  std::vector<FakeRequest> requests() const override {
    std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  asio::awaitable<void> Accept() {
    while (true) {
      auto [ec, socket] = co_await acceptor_.async_accept(kAwait);
      if (ec) co_return;
      ++accepted_;
      socket.set_option(tcp::no_delay(true));
      asio::co_spawn(io_, Session(std::move(socket)), asio::detached);
    }
  }

  asio::awaitable<void> Session(tcp::socket socket) {
    ++open_;
    if (is_tls_) {
      ssl::stream<tcp::socket> stream(std::move(socket), context_);
      auto [ec] =
          co_await stream.async_handshake(ssl::stream_base::server, kAwait);
      if (!ec) co_await Serve(stream);
    } else {
      co_await Serve(socket);
    }
    --open_;
  }

  template <typename Stream>
  asio::awaitable<void> Serve(Stream& stream) {
    beast::flat_buffer buffer;
    bool go_on = true;
    while (go_on) {
      http::request<http::string_body> request;
      auto [ec, n] = co_await http::async_read(stream, buffer, request, kAwait);
      if (ec) co_return;
      FakeRequest seen;
      seen.path = std::string(request.target());
      seen.body = request.body();
      seen.authorization = std::string(request[http::field::authorization]);
      {
        std::lock_guard lock(mutex_);
        requests_.push_back(seen);
      }
      const FakeReply reply = script_(seen);
      go_on = co_await Answer(stream, reply) && !reply.close;
    }
  }

  asio::awaitable<void> Sleep(absl::Duration duration) {
    if (duration <= absl::ZeroDuration()) co_return;
    asio::steady_timer timer(io_, absl::ToChronoNanoseconds(duration));
    co_await timer.async_wait(kAwait);
  }

  template <typename Stream>
  asio::awaitable<bool> Write(Stream& stream, std::string bytes) {
    auto [ec, n] =
        co_await asio::async_write(stream, asio::buffer(bytes), kAwait);
    co_return !ec;
  }

  template <typename Stream>
  asio::awaitable<bool> Answer(Stream& stream, const FakeReply& reply) {
    co_await Sleep(reply.silence);
    if (!reply.raw.empty()) {
      co_await Write(stream, reply.raw);
      co_return false;
    }
    std::string header = "HTTP/1.1 " + std::to_string(reply.status) +
                         " x\r\nTransfer-Encoding: chunked\r\n";
    if (!reply.content_type.empty()) {
      header += "Content-Type: " + reply.content_type + "\r\n";
    }
    if (reply.close) header += "Connection: close\r\n";
    for (const auto& [name, value] : reply.headers) {
      header += name + ": " + value + "\r\n";
    }
    bool sent = co_await Write(stream, header + "\r\n");
    for (size_t i = 0; sent && i < reply.chunks.size(); ++i) {
      co_await Sleep(reply.pause);
      const std::string& chunk = reply.chunks[i];
      char size[20];
      std::snprintf(size, sizeof size, "%zx\r\n", chunk.size());
      sent = co_await Write(stream, size + chunk + "\r\n");
      if (reply.endless && i + 1 == reply.chunks.size()) --i;
    }
    if (!sent || reply.cut) co_return false;
    sent = co_await Write(stream, "0\r\n\r\n");
    co_return sent;
  }

  const Script script_;
  const bool is_tls_;
  asio::io_context io_;
  ssl::context context_{ssl::context::tls_server};
  tcp::acceptor acceptor_;
  std::atomic<int> accepted_ = 0;
  std::atomic<int> open_ = 0;
  mutable std::mutex mutex_;
  std::vector<FakeRequest> requests_;
  std::thread thread_;
};

}  // namespace

std::string SseEvent(const std::string& json) {
  return "data: " + json + "\n\n";
}

FakeReply ChatReply(const std::vector<std::string>& words) {
  FakeReply reply;
  const auto choice = [](const std::string& delta, const std::string& finish) {
    return SseEvent(R"({"model":"remote","choices":[{"index":0,"delta":)" +
                    delta + R"(,"finish_reason":)" + finish + "}]}");
  };
  reply.chunks.push_back(
      choice(R"({"role":"assistant","content":""})", "null"));
  for (const std::string& word : words) {
    reply.chunks.push_back(choice(R"({"content":")" + word + R"("})", "null"));
  }
  reply.chunks.push_back(choice("{}", R"("stop")"));
  reply.chunks.push_back(SseEvent(
      R"({"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":)" +
      std::to_string(words.size()) + "}}"));
  reply.chunks.push_back(SseEvent("[DONE]"));
  return reply;
}

std::unique_ptr<FakeUpstream> FakeUpstream::Start(
    Script script, const TestCertificate* certificate) {
  return std::make_unique<ScriptedUpstream>(std::move(script), certificate);
}

}  // namespace conclave::upstream
