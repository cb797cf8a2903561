// What `serve` and `worker` have in common: how models are run here.
#ifndef CONCLAVE_CLI_WORKER_OPTIONS_H_
#define CONCLAVE_CLI_WORKER_OPTIONS_H_

#include <string>

#include "base/status.h"
#include "expert_workers/model_host.h"

namespace CLI {
class App;
}

namespace conclave::cli {

struct WorkerOptions {
  int threads = 0;  // 0: physical cores
  std::string ram_budget = "50%";
  std::string kv_budget = "10%";
  int max_batch = 16;
  int64_t max_context = 0;
  std::string isa;    // empty: the best
  std::string draft;  // "large=small,..."
};

void AddWorkerOptions(CLI::App& command, WorkerOptions& options);

// Divides this machine's memory: the one place that does.
//   INVALID_ARGUMENT  a size that is none, or budgets over what there is
absl::StatusOr<workers::ModelHostOptions> ResolveWorkerOptions(
    const WorkerOptions& options);

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_WORKER_OPTIONS_H_
