// Runs gRPC services: on a port, in-process, or both. Health and reflection
// are always on. Knows no service by name.
//
// Threads: Start and Shutdown once each; InProcessChannel any time between.
#ifndef CONCLAVE_BASE_RPC_SERVER_H_
#define CONCLAVE_BASE_RPC_SERVER_H_

#include <absl/time/time.h>
#include <grpcpp/channel.h>
#include <grpcpp/impl/service_type.h>

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace conclave::rpc {

// Largest message either way: a long prompt with a long history fits, a
// stream of them does not exhaust memory.
inline constexpr int kMaxMessageBytes = 16 << 20;

// Implemented by a service some of whose streams never end by themselves (a
// watch), so that they do not hold up a graceful shutdown.
class StopsStreams {
 public:
  virtual ~StopsStreams() = default;
  // Ends such streams with UNAVAILABLE, and later ones at once. Any thread.
  virtual void StopStreams() = 0;
};

class Server {
 public:
  // `address` is HOST:PORT (port 0: any), or empty for in-process only.
  // Services are borrowed and outlive the server.
  //   UNAVAILABLE  the port is taken; says what to do
  static absl::StatusOr<std::unique_ptr<Server>> Start(
      const std::string& address, const std::vector<grpc::Service*>& services);
  virtual ~Server() = default;

  // A channel that stays inside the process.
  virtual std::shared_ptr<grpc::Channel> InProcessChannel() = 0;
  // The port in use; 0 when in-process only.
  virtual int port() const = 0;
  // What health checks say from now on.
  virtual void SetServing(bool serving) = 0;
  // Stops the streams of StopsStreams services, refuses new calls, waits for
  // running ones until `deadline`, then cancels what is left and waits for
  // that.
  virtual void Shutdown(absl::Time deadline) = 0;
};

// A channel to HOST:PORT. Connects on first use, and again after a loss.
std::shared_ptr<grpc::Channel> Connect(const std::string& address);

// Whether somebody answers before `deadline`. A refused connection is known
// at once.
bool WaitForConnected(grpc::Channel& channel, absl::Time deadline);

}  // namespace conclave::rpc

#endif  // CONCLAVE_BASE_RPC_SERVER_H_
