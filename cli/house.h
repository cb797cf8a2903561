// The whole service in one process: registry, worker, router and gateway,
// joined by in-process channels, as they would be by TCP on several machines.
#ifndef CONCLAVE_CLI_HOUSE_H_
#define CONCLAVE_CLI_HOUSE_H_

#include <absl/time/time.h>

#include <memory>
#include <string>

#include "base/status.h"
#include "cli/routing_options.h"
#include "cli/worker_options.h"

namespace conclave::cli {

struct HouseOptions {
  std::string data_dir;
  std::string http = "127.0.0.1:8080";
  std::string grpc = "127.0.0.1:50051";
  std::string api_key_file;
  // The model that reads requests for the router: a model's name, "auto" (the
  // first encoder registered), or "none".
  std::string encoder = "auto";
  bool allow_remote_grpc = false;
  // Seconds; 0: any time. As in dispatch/dispatcher.h.
  double first_token_timeout = 300;
  double token_timeout = 60;
  RoutingOptions routing;
  WorkerOptions worker;
};

class House {
 public:
  // Returns when it can answer.
  //   UNAVAILABLE          a port is taken, the data directory is held
  //   FAILED_PRECONDITION  a non-loopback address without what it needs
  static absl::StatusOr<std::unique_ptr<House>> Open(
      const HouseOptions& options);
  virtual ~House() = default;

  virtual std::string http_address() const = 0;
  virtual std::string grpc_address() const = 0;
  // Takes nothing new, lets running answers end until `deadline`. True when
  // none had to be cut off.
  virtual bool Drain(absl::Time deadline) = 0;
};

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_HOUSE_H_
