#include "router_service/dispatch/worker_directory.h"

#include <absl/time/clock.h>

#include <algorithm>
#include <tuple>

namespace conclave::router {

std::shared_ptr<workers::WorkerClient> WorkerDirectory::Client(
    const std::string& address) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<workers::WorkerClient>& client = clients_[address];
  if (client == nullptr) client = connect_(address);
  return client;
}

std::vector<registry::WorkerRecord> WorkerDirectory::Choose(
    const registry::Snapshot& snapshot, const registry::ModelRecord& model,
    const std::string& pinned) const {
  std::vector<registry::WorkerRecord> chosen;
  for (const auto& [name, worker] : snapshot.workers) {
    if (!pinned.empty() && name != pinned) continue;
    if (std::ranges::find(worker.models, model.version) !=
        worker.models.end()) {
      chosen.push_back(worker);
    }
  }
  std::lock_guard lock(mutex_);
  const auto rank = [&](const registry::WorkerRecord& worker) {
    const auto it = known_.find(worker.address);
    if (it == known_.end()) return std::tuple(true, int64_t{0});
    return std::tuple(!it->second.resident.contains(model.version),
                      it->second.busy);
  };
  std::ranges::stable_sort(
      chosen, [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  return chosen;
}

void WorkerDirectory::Refresh(const registry::Snapshot& snapshot,
                              absl::Duration timeout) {
  std::set<std::string> addresses;
  for (const auto& [name, worker] : snapshot.workers) {
    addresses.insert(worker.address);
  }
  std::map<std::string, Known> known;
  for (const std::string& address : addresses) {
    const auto stats = Client(address)->Stats(absl::Now() + timeout);
    if (!stats.ok()) continue;
    Known& entry = known[address];
    for (const auto& model : stats->models()) {
      // A model counts as resident when most of it is: the rest is cheap.
      if (model.resident_bytes() > 0 &&
          model.resident_bytes() >= model.total_bytes() / 2) {
        entry.resident.insert(model.version());
      }
      entry.busy += model.running() + model.waiting();
    }
  }
  std::lock_guard lock(mutex_);
  known_ = std::move(known);
  std::erase_if(clients_, [&](const auto& item) {
    return !addresses.contains(item.first);
  });
}

}  // namespace conclave::router
