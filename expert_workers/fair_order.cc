#include "expert_workers/fair_order.h"

#include <algorithm>

#include "base/check.h"

namespace conclave::workers {
namespace {

// Tenants remembered; those who are behind the present are forgotten first.
constexpr size_t kMaxTenants = 4096;

}  // namespace

uint64_t FairOrder::Arrive(const std::string& tenant, uint64_t floor,
                           int64_t cost) {
  CHECK(cost >= 1, "cost {}", cost);
  if (next_.size() >= kMaxTenants) {
    std::erase_if(next_, [this](const auto& entry) {
      return entry.second <= now_ >> kArrivalBits;
    });
    if (next_.size() >= kMaxTenants) next_.clear();
  }
  uint64_t& next = next_[tenant];
  const uint64_t start = std::max(next, floor >> kArrivalBits);
  next = start + static_cast<uint64_t>(cost);
  const uint64_t arrival = arrivals_++ & ((uint64_t{1} << kArrivalBits) - 1);
  return (start << kArrivalBits) | arrival;
}

void FairOrder::Begin(uint64_t tag) { now_ = std::max(now_, tag); }

}  // namespace conclave::workers
