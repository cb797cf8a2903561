// What an operator may decide about the choice of experts.
#ifndef CONCLAVE_CLI_ROUTING_OPTIONS_H_
#define CONCLAVE_CLI_ROUTING_OPTIONS_H_

#include "base/status.h"
#include "router_service/policy/policy.h"

namespace CLI {
class App;
}

namespace conclave::cli {

struct RoutingOptions {
  double max_cost = 0;  // as experts state theirs; 0: no limit
  double explore = 0;   // share of requests
};

void AddRoutingOptions(CLI::App& command, RoutingOptions& options);

// INVALID_ARGUMENT: a cost below 0, a share outside 0..1.
absl::StatusOr<router::PolicyOptions> ResolveRoutingOptions(
    const RoutingOptions& options);

// Uniform in [0, 1), from any thread; other numbers in every run.
double UniformRandom();

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_ROUTING_OPTIONS_H_
