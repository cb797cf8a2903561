// A TCP client that sends exactly the bytes it is told, for tests of what a
// well-behaved HTTP client would never send.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_RAW_CLIENT_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_RAW_CLIENT_H_

#include <absl/time/clock.h>
#include <absl/time/time.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/check.h"

namespace conclave::gateway {

class RawClient {
 public:
  explicit RawClient(int port, int receive_buffer = 0) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd_ >= 0);
    if (receive_buffer > 0) {
      setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer,
                 sizeof(receive_buffer));
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(connect(fd_, reinterpret_cast<sockaddr*>(&address),
                  sizeof(address)) == 0);
  }
  ~RawClient() { Close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  // False when the server no longer takes it.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  // Appends what comes to received(); false at the end of the stream, on a
  // reset, or when nothing comes in time.
  bool Receive(absl::Duration patience = absl::Seconds(10),
               size_t most = 4096) {
    pollfd wait{fd_, POLLIN, 0};
    if (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) <=
        0) {
      return false;
    }
    char buffer[4096];
    const ssize_t n = recv(fd_, buffer, std::min(most, sizeof(buffer)), 0);
    if (n <= 0) {
      closed_ = true;
      return false;
    }
    received_.append(buffer, static_cast<size_t>(n));
    return true;
  }
  // Reads until `text` is there; false when the stream ended before.
  bool ReceiveUntil(std::string_view text) {
    while (received_.find(text) == std::string::npos) {
      if (!Receive()) return false;
    }
    return true;
  }
  // Reads one response with a content-length; "" when none comes whole.
  std::string ReceiveResponse() {
    if (!ReceiveUntil("\r\n\r\n")) return "";
    const size_t head = received_.find("\r\n\r\n") + 4;
    const size_t field = received_.find("content-length: ");
    if (field == std::string::npos || field > head) return "";
    const size_t size =
        head + std::strtoul(&received_[field + 16], nullptr, 10);
    while (received_.size() < size) {
      if (!Receive()) return "";
    }
    const std::string response = received_.substr(0, size);
    received_.erase(0, size);
    return response;
  }
  std::string ReceiveAll() {
    while (Receive()) {
    }
    return received_;
  }
  const std::string& received() const { return received_; }
  bool closed() const { return closed_; }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  // Closes with a reset, as a killed process or a phone out of reach does.
  void Reset() {
    const linger now{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    Close();
  }

 private:
  int fd_ = -1;
  bool closed_ = false;
  std::string received_;
};

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_RAW_CLIENT_H_
