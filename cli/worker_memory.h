// What the workers say of their memory, for commands that print it.
#ifndef CONCLAVE_CLI_WORKER_MEMORY_H_
#define CONCLAVE_CLI_WORKER_MEMORY_H_

#include <map>
#include <string>

#include "conclave/v1/worker.pb.h"
#include "registry/client.h"

namespace conclave::cli {

// The figures of every registered worker that answers within two seconds, by
// name; a line on stderr for one that does not. Call after WaitUntilReady.
std::map<std::string, v1::WorkerStats> AskWorkers(
    registry::RegistryClient& registry);

// "0.09 GB in memory", "0.40 GB on disk".
std::string WhereWeightsAre(const v1::WorkerStats::Model& model);

// "local: 0.5 of 4.0 GB for weights in use, 0.5 GB for KV caches, 1.1 GB the
// whole process, 2 threads, avx2"
std::string MemoryLine(const std::string& worker, const v1::WorkerStats& stats);

}  // namespace conclave::cli

#endif  // CONCLAVE_CLI_WORKER_MEMORY_H_
