#include "kernels/gate/capacity.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace conclave::kernels {
namespace {

// splitmix64's mixing: every bit of the input changes half of the output.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

double RandomKey(uint64_t seed, int32_t place, int32_t expert) {
  const auto low = static_cast<uint64_t>(static_cast<uint32_t>(place));
  const auto high = static_cast<uint64_t>(static_cast<uint32_t>(expert));
  return static_cast<double>(Mix(Mix(seed) ^ (high << 32 | low)) >> 11);
}

}  // namespace

int64_t CapacityOf(const GateConfig& config, int64_t num_tokens,
                   int64_t num_experts) {
  const auto n = static_cast<double>(num_tokens);
  const auto e = static_cast<double>(num_experts);
  if (config.select == SelectKind::kExpertChoice) {
    const auto share =
        static_cast<int64_t>(std::floor(config.cf * n / e + 0.5));
    return std::min(std::max(config.min_capacity, share), num_tokens);
  }
  const bool patches = config.select == SelectKind::kPatchSelect;
  const double cf = patches ? config.cf : config.capacity_factor;
  const int64_t k =
      config.select == SelectKind::kTopP ? config.k_max : config.k;
  return static_cast<int64_t>(std::ceil(cf * n * static_cast<double>(k) / e));
}

int64_t Capacity::Keep(const GateConfig& config, CapacityOrder order,
                       int64_t num_experts, const Segments& segments,
                       uint64_t seed, std::span<const double> priority,
                       std::vector<Assignment>* chosen) {
  candidates_.clear();
  for (size_t i = 0; i < chosen->size(); ++i) {
    const Assignment& a = (*chosen)[i];
    const auto t = static_cast<size_t>(a.token);
    const double key = order == CapacityOrder::kPriority ? priority[i]
                       : order == CapacityOrder::kRandom
                           ? RandomKey(seed, segments.in_segment[t], a.expert)
                           : 0.0;
    candidates_.push_back({segments.of_token[t], a.expert, key, a.token,
                           static_cast<int32_t>(i)});
  }
  std::sort(candidates_.begin(), candidates_.end(),
            [](const Candidate& a, const Candidate& b) {
              return std::tie(a.segment, a.expert, b.key, a.token) <
                     std::tie(b.segment, b.expert, a.key, b.token);
            });
  kept_.assign(chosen->size(), 0);
  int64_t left = 0;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    const Candidate& c = candidates_[i];
    if (i == 0 || c.segment != candidates_[i - 1].segment ||
        c.expert != candidates_[i - 1].expert) {
      left = CapacityOf(config, segments.size[static_cast<size_t>(c.segment)],
                        num_experts);
    }
    if (left-- > 0) kept_[static_cast<size_t>(c.index)] = 1;
  }
  size_t to = 0;
  for (size_t i = 0; i < chosen->size(); ++i) {
    if (kept_[i] != 0) (*chosen)[to++] = (*chosen)[i];
  }
  const auto dropped = static_cast<int64_t>(chosen->size() - to);
  chosen->resize(to);
  return dropped;
}

}  // namespace conclave::kernels
