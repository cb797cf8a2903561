#include "cli/routing_options.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <random>

namespace conclave::cli {

void AddRoutingOptions(CLI::App& command, RoutingOptions& options) {
  command.add_option("--max-cost", options.max_cost,
                     "Experts whose --cost is more stand behind the others "
                     "that serve the same (0: no limit)");
  command.add_option("--explore", options.explore,
                     "Share of requests, 0..1, answered by any expert of the "
                     "category, to learn which is good; 1: all");
}

absl::StatusOr<router::PolicyOptions> ResolveRoutingOptions(
    const RoutingOptions& options) {
  // Written so that NaN is refused too.
  if (!(options.max_cost >= 0 && std::isfinite(options.max_cost))) {
    return InvalidArgument("--max-cost is {}; it must be 0 (no limit) or more",
                           options.max_cost);
  }
  if (!(options.explore >= 0 && options.explore <= 1)) {
    return InvalidArgument(
        "--explore is {}; it is a share of all requests, 0 to 1",
        options.explore);
  }
  router::PolicyOptions policy;
  policy.select.max_cost = options.max_cost;
  policy.select.epsilon = options.explore;
  return policy;
}

double UniformRandom() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  // 53 bits: what a double holds.
  return static_cast<double>(generator() >> 11) * 0x1p-53;
}

}  // namespace conclave::cli
