// The registry over gRPC: a thin skin. Knows no weight store: models are
// imported and removed by what it is given.
#ifndef CONCLAVE_REGISTRY_SERVICE_H_
#define CONCLAVE_REGISTRY_SERVICE_H_

#include <absl/time/time.h>
#include <grpcpp/impl/service_type.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "registry/registry.h"

namespace conclave::registry {

// Bytes done and bytes in all. An error ends the import with it.
using ImportProgress = std::function<absl::Status(int64_t done, int64_t total)>;

// What holds the weights. Threads: all methods may run concurrently.
class ModelAdmin {
 public:
  virtual ~ModelAdmin() = default;
  // Returns what was stored; the service then puts it into the registry.
  // `progress` is called often. What it ends leaves nothing stored.
  virtual absl::StatusOr<ModelRecord> Import(
      const std::string& path, const std::string& name,
      const ImportProgress& progress) = 0;
  // Called after the registry has let the name go.
  virtual absl::Status Remove(const std::string& name) = 0;
};

struct RegistryServiceOptions {
  // What a worker gets: long enough for two lost heartbeats, short enough
  // that a dead worker is forgotten soon.
  absl::Duration worker_lease = absl::Seconds(6);
  // How often leases are looked at.
  absl::Duration expiry_interval = absl::Milliseconds(500);
  // Changes that wait for one slow watcher before it is sent away; it lists
  // again.
  size_t max_watch_backlog = 1024;
};

// `registry` and `models` are borrowed; a null `models` imports nothing
// (UNIMPLEMENTED). Drops workers whose lease has run out while it lives.
// The service outlives its server.
std::unique_ptr<grpc::Service> MakeRegistryService(
    Registry* registry, ModelAdmin* models,
    const RegistryServiceOptions& options = {});

}  // namespace conclave::registry

#endif  // CONCLAVE_REGISTRY_SERVICE_H_
