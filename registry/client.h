// Speaks to the registry from elsewhere. Shows no gRPC type. Keeps a mirror of
// the state by Watch, so that snapshot() is a pointer load.
#ifndef CONCLAVE_REGISTRY_CLIENT_H_
#define CONCLAVE_REGISTRY_CLIENT_H_

#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "registry/expert_spec.h"

namespace grpc {
class Channel;
}

namespace conclave::registry {

// Where readers get snapshots from: the mirror here, or a fixed one in a test.
class SnapshotSource {
 public:
  virtual ~SnapshotSource() = default;
  // Never null; revision 0 and empty before the first state has arrived.
  virtual std::shared_ptr<const Snapshot> snapshot() const = 0;
};

// Holds what it is given; Set() replaces it. Useful for policy tests.
class FixedSnapshot final : public SnapshotSource {
 public:
  explicit FixedSnapshot(Snapshot snapshot)
      : snapshot_(std::make_shared<const Snapshot>(std::move(snapshot))) {}
  std::shared_ptr<const Snapshot> snapshot() const override {
    return std::atomic_load(&snapshot_);
  }
  void Set(Snapshot snapshot) {
    std::atomic_store(&snapshot_,
                      std::make_shared<const Snapshot>(std::move(snapshot)));
  }

 private:
  std::shared_ptr<const Snapshot> snapshot_;
};

class RegistryClient : public SnapshotSource {
 public:
  // Starts mirroring at once, and reconnects for ever.
  static std::unique_ptr<RegistryClient> Create(
      std::shared_ptr<grpc::Channel> channel);

  // Waits until the mirror has caught up once. DEADLINE_EXCEEDED.
  virtual absl::Status WaitUntilReady(absl::Time deadline) = 0;
  // Called with every new snapshot of the mirror, on the mirror's thread.
  virtual void OnChange(
      std::function<void(std::shared_ptr<const Snapshot>)> callback) = 0;

  virtual absl::StatusOr<ExpertSpec> RegisterExpert(
      const ExpertSpec& spec, const std::string& idempotency_key,
      absl::Time deadline) = 0;
  virtual absl::StatusOr<ExpertSpec> DrainExpert(
      const std::string& name, const std::string& idempotency_key,
      absl::Time deadline) = 0;
  // `expected_version` 0, or "": any.
  virtual absl::Status RemoveExpert(const std::string& name,
                                    uint64_t expected_version,
                                    const std::string& idempotency_key,
                                    absl::Time deadline) = 0;
  virtual absl::StatusOr<std::vector<ExpertSpec>> ListExperts(
      absl::Time deadline) = 0;
  virtual absl::StatusOr<ModelRecord> ImportModel(
      const std::string& path, const std::string& name,
      const std::string& idempotency_key,
      const std::function<void(int64_t done, int64_t total)>& progress,
      absl::Time deadline) = 0;
  virtual absl::StatusOr<std::vector<ModelRecord>> ListModels(
      absl::Time deadline) = 0;
  virtual absl::Status RemoveModel(const std::string& name,
                                   const std::string& expected_version,
                                   const std::string& idempotency_key,
                                   absl::Time deadline) = 0;
  virtual absl::StatusOr<AliasRecord> SetAlias(
      const std::string& alias, const std::string& expert,
      uint64_t expected_version, const std::string& idempotency_key,
      absl::Time deadline) = 0;
  virtual absl::Status RemoveAlias(const std::string& alias,
                                   uint64_t expected_version,
                                   const std::string& idempotency_key,
                                   absl::Time deadline) = 0;
  virtual absl::StatusOr<WorkerRecord> JoinWorker(
      const std::string& name, const std::string& address,
      const std::vector<std::string>& models, absl::Time deadline) = 0;
  virtual absl::StatusOr<WorkerRecord> HeartbeatWorker(
      const std::string& name, uint64_t epoch,
      const std::vector<std::string>& models, absl::Time deadline) = 0;
  virtual absl::Status LeaveWorker(const std::string& name, uint64_t epoch,
                                   absl::Time deadline) = 0;
};

// Removes a drained expert, as its snapshot showed it: never one that was
// added under the name since (ABORTED), however often it is called.
absl::Status RemoveDrained(RegistryClient& client, const ExpertSpec& expert,
                           absl::Time deadline);

}  // namespace conclave::registry

#endif  // CONCLAVE_REGISTRY_CLIENT_H_
