#include "expert_workers/engine/tenants.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"

namespace conclave::engine {

void InsertByKey(std::vector<Sequence*>& list, Sequence* sequence) {
  const auto at = std::upper_bound(
      list.begin(), list.end(), sequence,
      [](const Sequence* a, const Sequence* b) { return a->key() < b->key(); });
  list.insert(at, sequence);
}

void Tenants::EnterWaiting(Sequence* sequence) {
  InsertByKey(Enter(*sequence).waiting, sequence);
}

void Tenants::EnterRunning(Sequence* sequence) {
  InsertByKey(Enter(*sequence).running, sequence);
}

void Tenants::Start(Sequence* sequence) {
  Tenant& tenant = Of(*sequence);
  CHECK(std::erase(tenant.waiting, sequence) == 1);
  InsertByKey(tenant.running, sequence);
}

void Tenants::Stop(Sequence* sequence) {
  Tenant& tenant = Of(*sequence);
  CHECK(std::erase(tenant.running, sequence) == 1);
  InsertByKey(tenant.waiting, sequence);
}

void Tenants::Leave(Sequence* sequence) {
  const auto found = tenants_.find(sequence->tenant);
  if (found == tenants_.end()) return;
  std::erase(found->second.waiting, sequence);
  std::erase(found->second.running, sequence);
}

void Tenants::Charge(const Sequence& sequence, int64_t tokens) {
  Of(sequence).served += tokens;
}

Tenant* Tenants::NextWaiting() {
  Tenant* next = nullptr;
  const auto order = [](const Tenant& tenant) {
    return std::pair(!tenant.running.empty(), tenant.served);
  };
  for (auto& [name, tenant] : tenants_) {
    if (tenant.waiting.empty()) continue;
    if (next == nullptr || order(tenant) < order(*next)) next = &tenant;
  }
  return next;
}

int64_t Tenants::num_waiting() const {
  size_t waiting = 0;
  for (const auto& [name, tenant] : tenants_) waiting += tenant.waiting.size();
  return static_cast<int64_t>(waiting);
}

std::vector<Tenant*> Tenants::Running() {
  std::vector<Tenant*> running;
  for (auto& [name, tenant] : tenants_) {
    if (!tenant.running.empty()) running.push_back(&tenant);
  }
  std::stable_sort(
      running.begin(), running.end(),
      [](const Tenant* a, const Tenant* b) { return a->served < b->served; });
  return running;
}

Tenant& Tenants::Of(const Sequence& sequence) {
  const auto found = tenants_.find(sequence.tenant);
  CHECK(found != tenants_.end(), "tenant {}", sequence.tenant);
  return found->second;
}

Tenant& Tenants::Enter(const Sequence& sequence) {
  const auto found = tenants_.find(sequence.tenant);
  if (found != tenants_.end() && found->second.present()) return found->second;
  std::optional<int64_t> least;
  for (const auto& [name, tenant] : tenants_) {
    if (!tenant.present()) continue;
    least = std::min(least.value_or(tenant.served), tenant.served);
  }
  // Who is away is remembered no longer than it matters: with nobody here
  // all start anew, and a counter below the least would be raised anyway.
  std::erase_if(tenants_, [&](const auto& entry) {
    const Tenant& tenant = entry.second;
    return !tenant.present() && (!least.has_value() || tenant.served <= *least);
  });
  Tenant& tenant = tenants_[sequence.tenant];
  tenant.served = std::max(tenant.served, least.value_or(0));
  return tenant;
}

}  // namespace conclave::engine
