#include "cli/data_dir.h"

#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <filesystem>

#include "registry/rocksdb_registry.h"

namespace conclave::cli {
namespace {

// The weight store, as the registry service sees it.
class StoreAdmin final : public registry::ModelAdmin {
 public:
  explicit StoreAdmin(weights::WeightStore* store) : store_(store) {}

  absl::StatusOr<registry::ModelRecord> Import(
      const std::string& path, const std::string& name,
      const registry::ImportProgress& progress) override {
    ASSIGN_OR_RETURN(const weights::ModelEntry entry,
                     store_->Import(path, name, progress));
    return Record(entry);
  }

  absl::Status Remove(const std::string& name) override {
    return store_->Remove(name);
  }

  absl::StatusOr<registry::ModelRecord> Record(
      const weights::ModelEntry& entry) const {
    ASSIGN_OR_RETURN(const auto manifest, store_->Manifest(entry.version));
    return registry::ModelRecord{
        .name = entry.name,
        .version = entry.version,
        .architecture = entry.architecture,
        .bytes = entry.total_bytes,
        .parameters = entry.parameters,
        .context = manifest->spec.hyperparameters.max_context,
        .source = entry.source};
  }

 private:
  weights::WeightStore* const store_;
};

class OwnedDataDir final : public DataDir {
 public:
  absl::Status Open(const std::string& path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error || access(path.c_str(), W_OK) != 0) {
      return PermissionDenied(
          "data directory {} cannot be written{}{}; choose another with "
          "--data-dir",
          path, error ? ": " : "", error ? error.message() : "");
    }
    // Weights and prompts are their owner's business.
    chmod(path.c_str(), 0700);
    ASSIGN_OR_RETURN(
        registry_, registry::OpenRocksDbRegistry({.path = path + "/registry"}));
    ASSIGN_OR_RETURN(weights_,
                     weights::WeightStore::Open({.path = path + "/weights"}));
    admin_ = std::make_unique<StoreAdmin>(weights_.get());
    return Reconcile();
  }

  weights::WeightStore& weights() override { return *weights_; }
  registry::Registry& registry() override { return *registry_; }
  registry::ModelAdmin& model_admin() override { return *admin_; }

 private:
  // The store is published first and the registry second; a kill between the
  // two leaves a model that only the store knows, or (on removal) one that
  // only the store still has.
  absl::Status Reconcile() {
    const auto known = registry_->snapshot();
    for (const weights::ModelEntry& entry : weights_->List()) {
      ASSIGN_OR_RETURN(const registry::ModelRecord record,
                       admin_->Record(entry));
      const auto it = known->models.find(entry.name);
      if (it == known->models.end() || !(it->second == record)) {
        RETURN_IF_ERROR(registry_->PutModel(record));
      }
    }
    return absl::OkStatus();
  }

  std::unique_ptr<registry::Registry> registry_;
  std::unique_ptr<weights::WeightStore> weights_;
  std::unique_ptr<StoreAdmin> admin_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DataDir>> DataDir::Open(
    const std::string& path) {
  auto data_dir = std::make_unique<OwnedDataDir>();
  RETURN_IF_ERROR(data_dir->Open(path));
  return std::unique_ptr<DataDir>(std::move(data_dir));
}

}  // namespace conclave::cli
