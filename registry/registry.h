// Who serves what: experts, models, aliases, workers. The interface that
// RocksDB implements here and other stores may implement later; the suite in
// tests/contract/registry_contract.h says what each must do.
//
// Acknowledged is durable: a call that returned OK survives kill -9.
// Readers take a snapshot: immutable, one atomic pointer, never a lock.
//
// Every mutation takes an idempotency key (may be empty: none). The same key
// and request return the first answer; the same key with another request is
// INVALID_ARGUMENT. Those of workers do not: their epochs do that job.
// `expected_version` 0 or "" means any; else it must equal the object's
// version, or ABORTED.
//
// Threads: all methods may run concurrently.
#ifndef CONCLAVE_REGISTRY_REGISTRY_H_
#define CONCLAVE_REGISTRY_REGISTRY_H_

#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "registry/expert_spec.h"

namespace conclave::registry {

// What a change did; the value is in the snapshot of that revision.
struct ChangeEvent {
  enum class Kind : uint8_t { kExpert, kModel, kAlias, kWorker };
  uint64_t revision = 0;
  Kind kind = Kind::kExpert;
  std::string name;
  bool removed = false;
};

// Called in revision order, after the snapshot is visible; must not block and
// must not call back into the registry's mutations.
using Watcher = std::function<void(const ChangeEvent& event,
                                   std::shared_ptr<const Snapshot> snapshot)>;

// Unregisters its watcher when destroyed; no call is made afterwards.
class WatchHandle {
 public:
  virtual ~WatchHandle() = default;
};

// The import that a model came from, with the key it was called with.
struct ImportCall {
  std::string path;
  std::string name;
  std::string idempotency_key;
};

class Registry {
 public:
  virtual ~Registry() = default;

  virtual std::shared_ptr<const Snapshot> snapshot() const = 0;
  virtual std::unique_ptr<WatchHandle> Watch(Watcher watcher) = 0;

  //   ALREADY_EXISTS    another expert of that name (the same spec is too)
  //   NOT_FOUND         its model, base or worker; says how to add one
  //   INVALID_ARGUMENT  names, no category, not exactly one of
  //                     model/endpoint/base, base chains deeper than 4, limits
  virtual absl::StatusOr<ExpertSpec> RegisterExpert(
      ExpertSpec spec, std::string_view idempotency_key) = 0;
  //   FAILED_PRECONDITION  the last serving expert of category "general" while
  //                        others serve; or another expert is based on it
  virtual absl::StatusOr<ExpertSpec> DrainExpert(
      std::string_view name, uint64_t expected_version,
      std::string_view idempotency_key) = 0;
  // Draining -> gone (removed), once nothing runs; also removes at once.
  virtual absl::Status RemoveExpert(std::string_view name,
                                    uint64_t expected_version,
                                    std::string_view idempotency_key) = 0;

  // An import takes minutes, before the registry has its model. So it asks
  // first whether the call was answered before (the answer, or nothing), and
  // says who it is when it puts what came of it.
  virtual absl::StatusOr<std::optional<ModelRecord>> FindImport(
      const ImportCall& call) = 0;
  virtual absl::Status PutModel(ModelRecord model, const ImportCall& call) = 0;
  absl::Status PutModel(ModelRecord model) {
    return PutModel(std::move(model), ImportCall());
  }
  // Versions are hashes: the same content has the same one.
  //   FAILED_PRECONDITION  an expert uses it: names them
  virtual absl::Status RemoveModel(std::string_view name,
                                   std::string_view expected_version,
                                   std::string_view idempotency_key) = 0;
  // The alias with its new version.
  //   ALREADY_EXISTS       an expert has the name
  //   NOT_FOUND            no such expert
  //   FAILED_PRECONDITION  the expert is draining
  virtual absl::StatusOr<AliasRecord> SetAlias(
      std::string_view alias, std::string_view expert,
      uint64_t expected_version, std::string_view idempotency_key) = 0;
  virtual absl::Status RemoveAlias(std::string_view alias,
                                   uint64_t expected_version,
                                   std::string_view idempotency_key) = 0;

  // Returns the record with its new epoch, larger than any before it.
  virtual absl::StatusOr<WorkerRecord> JoinWorker(
      std::string_view name, std::string_view address,
      std::vector<std::string> models, absl::Duration lease) = 0;
  //   ABORTED    another worker joined under that name since
  //   NOT_FOUND  the lease ran out: join again
  virtual absl::StatusOr<WorkerRecord> HeartbeatWorker(
      std::string_view name, uint64_t epoch, std::vector<std::string> models,
      absl::Duration lease) = 0;
  virtual absl::Status LeaveWorker(std::string_view name, uint64_t epoch) = 0;
  // Drops workers whose lease has run out; called often by the owner.
  virtual void ExpireLeases() = 0;
};

}  // namespace conclave::registry

#endif  // CONCLAVE_REGISTRY_REGISTRY_H_
