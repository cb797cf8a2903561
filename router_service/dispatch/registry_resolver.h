// Names to targets, by the registry's snapshot:
//   an expert with a model    each worker that can run it, best first
//   an expert at an endpoint  the endpoint
//   a prompt over a base      the base's targets, with the request wrapped
//   a model without expert    as an expert with that model
//
// Threads: all methods may run concurrently.
#ifndef CONCLAVE_ROUTER_SERVICE_DISPATCH_REGISTRY_RESOLVER_H_
#define CONCLAVE_ROUTER_SERVICE_DISPATCH_REGISTRY_RESOLVER_H_

#include <functional>
#include <optional>
#include <string>

#include "expert_workers/upstream/client.h"
#include "router_service/dispatch/target.h"
#include "router_service/dispatch/worker_directory.h"

namespace conclave::router {

class RegistryResolver final : public TargetResolver {
 public:
  // The value of an environment variable, or nothing.
  using Environment =
      std::function<std::optional<std::string>(const std::string& name)>;

  // Borrows both; a null `upstream` makes endpoints UNAVAILABLE.
  RegistryResolver(WorkerDirectory* workers, upstream::UpstreamClient* upstream,
                   Environment environment);

  absl::StatusOr<ResolvedExpert> Resolve(const registry::Snapshot& snapshot,
                                         const std::string& name) override;

 private:
  absl::StatusOr<std::vector<ResolvedTarget>> ModelTargets(
      const registry::Snapshot& snapshot, const std::string& model,
      const std::string& worker);
  absl::StatusOr<ResolvedTarget> EndpointTarget(
      const registry::Endpoint& endpoint);

  WorkerDirectory* const workers_;
  upstream::UpstreamClient* const upstream_;
  const Environment environment_;
};

// The process's own environment.
std::optional<std::string> ProcessEnvironment(const std::string& name);

}  // namespace conclave::router

#endif  // CONCLAVE_ROUTER_SERVICE_DISPATCH_REGISTRY_RESOLVER_H_
