// The registry on one machine: state in memory, every change in RocksDB first.
//
//   mutation: check against the snapshot -> one atomic, synchronous batch
//   (object, revision, idempotency record) -> publish snapshot -> watchers
//
// A call that fails on the disk changes nothing that readers see. Lease
// renewals alone are not stored: after a restart every worker gets one full
// lease to be heard from again.
#ifndef CONCLAVE_REGISTRY_ROCKSDB_REGISTRY_H_
#define CONCLAVE_REGISTRY_ROCKSDB_REGISTRY_H_

#include <cstddef>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "registry/registry.h"

namespace conclave::registry {

struct RocksDbRegistryOptions {
  std::string path;               // a directory of its own; made when absent
  Clock* clock = &Clock::Real();  // borrowed
  size_t max_idempotency_keys = 10'000;  // the newest are remembered
};

//   UNAVAILABLE         another process holds the directory
//   PERMISSION_DENIED   not writable
//   RESOURCE_EXHAUSTED  disk full
//   DATA_LOSS           what is stored is damaged
absl::StatusOr<std::unique_ptr<Registry>> OpenRocksDbRegistry(
    const RocksDbRegistryOptions& options);

}  // namespace conclave::registry

#endif  // CONCLAVE_REGISTRY_ROCKSDB_REGISTRY_H_
