#include "kernels/gate/select.h"

#include <algorithm>
#include <limits>

namespace conclave::kernels {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

float ScoreOfGroup(std::span<const float> keys, GroupScore how) {
  float best = kNever;
  float second = kNever;
  for (const float key : keys) {
    if (key > best) {
      second = best;
      best = key;
    } else if (key > second) {
      second = key;
    }
  }
  if (how == GroupScore::kMax || best == kNever) return best;
  // A group with one expert left has that one's score.
  return second == kNever ? best : best + second;
}

// The k best of `keys`, by insertion: nearly all cost one comparison.
int64_t TopK(std::span<const float> keys, int64_t k, int32_t* chosen) {
  int64_t count = 0;
  for (size_t c = 0; c < keys.size(); ++c) {
    const float key = keys[c];
    if (count == k) {
      if (!(key > keys[static_cast<size_t>(chosen[k - 1])])) continue;
    } else if (key == kNever) {
      continue;
    }
    int64_t at = count < k ? count++ : k - 1;
    for (; at > 0 && key > keys[static_cast<size_t>(chosen[at - 1])]; --at) {
      chosen[at] = chosen[at - 1];
    }
    chosen[at] = static_cast<int32_t>(c);
  }
  return count;
}

// All of them: insertion would take quadratic time.
int64_t SortAll(std::span<const float> keys, int64_t k, int32_t* chosen) {
  int64_t count = 0;
  for (size_t c = 0; c < keys.size(); ++c) {
    if (keys[c] != kNever) chosen[count++] = static_cast<int32_t>(c);
  }
  std::sort(chosen, chosen + count, [&](int32_t a, int32_t b) {
    const float x = keys[static_cast<size_t>(a)];
    const float y = keys[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  });
  return std::min(count, k);
}

// Above this, sorting n columns takes less than inserting k of them.
constexpr int64_t kInsertionLimit = 32;

int64_t Best(std::span<const float> keys, int64_t k, int32_t* chosen) {
  return k <= kInsertionLimit ? TopK(keys, k, chosen)
                              : SortAll(keys, k, chosen);
}

}  // namespace

void RestrictToGroups(const GateConfig& config, std::span<float> keys) {
  if (config.keep_groups == config.num_groups) return;
  const auto size = static_cast<size_t>(config.num_experts / config.num_groups);
  const auto group = [&](int64_t g) {
    return keys.subspan(static_cast<size_t>(g) * size, size);
  };
  // A group stays if fewer than keep_groups are better; there are few.
  // Dropped ones are marked only after all have been compared.
  float scores[kMaxGroups];
  for (int64_t g = 0; g < config.num_groups; ++g) {
    scores[g] = ScoreOfGroup(group(g), config.group_score);
  }
  for (int64_t g = 0; g < config.num_groups; ++g) {
    int64_t better = 0;
    for (int64_t h = 0; h < config.num_groups; ++h) {
      better += scores[h] > scores[g] || (scores[h] == scores[g] && h < g);
    }
    if (better < config.keep_groups) continue;
    std::ranges::fill(group(g), kNever);
  }
}

int64_t ChooseRanked(const SelectLimits& limits, const ScoredRow& row,
                     std::span<int32_t> chosen) {
  int64_t count = 0;
  if (!limits.force.empty()) {
    for (const int32_t id : limits.force) chosen[count++] = id;
    // By score, not by key: groups and corrections do not order the forced.
    std::sort(chosen.begin(), chosen.begin() + count,
              [&](int32_t a, int32_t b) {
                const float x = row.logits[static_cast<size_t>(a)];
                const float y = row.logits[static_cast<size_t>(b)];
                return x > y || (x == y && a < b);
              });
    for (const int32_t id : limits.force) {
      row.keys[static_cast<size_t>(id)] = kNever;
    }
  }
  if (count < limits.k) {
    count += Best(row.keys, limits.k - count, chosen.data() + count);
  }
  if (limits.p >= 1) return count;
  const auto forced = static_cast<int64_t>(limits.force.size());
  const double enough = limits.p * row.total;
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    sum += row.odds[static_cast<size_t>(chosen[static_cast<size_t>(i)])];
    if (sum > enough && i + 1 >= forced) return i + 1;
  }
  return count;
}

int64_t ChooseAll(const SelectLimits& /*limits*/, const ScoredRow& row,
                  std::span<int32_t> chosen) {
  int64_t count = 0;
  for (size_t c = 0; c < row.keys.size(); ++c) {
    if (row.keys[c] != kNever) {
      chosen[static_cast<size_t>(count++)] = static_cast<int32_t>(c);
    }
  }
  return count;
}

}  // namespace conclave::kernels
