// How a command reaches the registry and the router: a running service, or,
// with none running, the data directory itself. Either way it is the same
// client over the same gRPC service: in the second case inside this process.
#ifndef CONCLAVE_CLI_CONNECTION_H_
#define CONCLAVE_CLI_CONNECTION_H_

#include <memory>
#include <string>

#include "base/status.h"
#include "registry/client.h"
#include "router_service/client.h"

namespace CLI {
class App;
}

namespace conclave::cli {

struct ConnectionOptions {
  std::string server;          // HOST:PORT; empty: the default, then data_dir
  std::string data_dir;        // empty: DefaultDataDir()
  bool needs_service = false;  // the data directory will not do
};

inline constexpr char kDefaultGrpcAddress[] = "127.0.0.1:50051";

// $XDG_DATA_HOME/conclave, or ~/.local/share/conclave.
std::string DefaultDataDir();

// Declares --server and, for commands that can do without one, --data-dir.
void AddConnectionOptions(CLI::App& command, ConnectionOptions& options,
                          bool with_data_dir);

// Fresh for each command, so that a retry inside it is the same call.
std::string NewIdempotencyKey();

class RegistryConnection {
 public:
  virtual ~RegistryConnection() = default;
  virtual registry::RegistryClient& client() = 0;
  // "127.0.0.1:50051", or the data directory.
  virtual const std::string& where() const = 0;
  // A service runs there, and workers with it.
  virtual bool serves() const = 0;
};

//   UNAVAILABLE  --server was given and does not answer; or none answers and
//                the data directory is held by another process
absl::StatusOr<std::unique_ptr<RegistryConnection>> ConnectRegistry(
    const ConnectionOptions& options);

// UNAVAILABLE with the address and what to start.
absl::StatusOr<std::unique_ptr<router::RouterClient>> ConnectRouter(
    const ConnectionOptions& options);

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_CONNECTION_H_
