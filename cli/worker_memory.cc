#include "cli/worker_memory.h"

#include <absl/time/clock.h>
#include <fmt/core.h>

#include <cstdio>

#include "base/rpc/server.h"
#include "base/units.h"
#include "expert_workers/client.h"

namespace conclave::cli {

std::map<std::string, v1::WorkerStats> AskWorkers(
    registry::RegistryClient& registry) {
  std::map<std::string, v1::WorkerStats> answers;
  const auto snapshot = registry.snapshot();
  for (const auto& [name, worker] : snapshot->workers) {
    auto client = workers::WorkerClient::Create(rpc::Connect(worker.address));
    const auto stats = client->Stats(absl::Now() + absl::Seconds(2));
    if (stats.ok()) {
      answers[name] = *stats;
    } else {
      std::fprintf(stderr, "worker %s does not answer: %s\n", name.c_str(),
                   std::string(Message(stats.status())).c_str());
    }
  }
  return answers;
}

std::string WhereWeightsAre(const v1::WorkerStats::Model& model) {
  return model.resident_bytes() > 0
             ? FormatBytes(model.resident_bytes()) + " in memory"
             : FormatBytes(model.total_bytes()) + " on disk";
}

std::string MemoryLine(const std::string& worker,
                       const v1::WorkerStats& stats) {
  return fmt::format(
      "{}: {} of {} for weights in use, {} for KV caches, {} the whole "
      "process, {} threads, {}",
      worker, FormatBytes(stats.ram_resident_bytes()),
      FormatBytes(stats.ram_budget_bytes()),
      FormatBytes(stats.kv_budget_bytes()),
      FormatBytes(stats.process_resident_bytes()), stats.threads(),
      stats.isa());
}

}  // namespace conclave::cli
