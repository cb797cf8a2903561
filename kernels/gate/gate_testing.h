// For tests of gates: a batch with its owner, a plan's rows of one token, and
// the rules of routing written again, plainly, one token after the other.
#ifndef CONCLAVE_KERNELS_GATE_GATE_TESTING_H_
#define CONCLAVE_KERNELS_GATE_GATE_TESTING_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "kernels/gate/gate.h"

namespace conclave::kernels {

struct TestBatch {
  int64_t num_tokens = 0;
  std::vector<float> logits;
  std::vector<GateSequence> sequences;
  std::vector<uint8_t> valid;
  std::vector<GateTuning> tunings;  // of each sequence

  GateInput input() {
    for (size_t s = 0; s < sequences.size(); ++s) {
      sequences[s].tuning = tunings[s] == GateTuning() ? nullptr : &tunings[s];
    }
    return {.num_tokens = num_tokens,
            .logits = logits,
            .sequences = sequences,
            .valid = valid};
  }
};

inline std::vector<float> RandomLogits(size_t n, std::mt19937& random) {
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

inline GateTuning RandomTuning(const GateConfig& config, std::mt19937& random) {
  GateTuning tuning;
  const auto columns = static_cast<uint32_t>(config.num_columns());
  for (uint32_t c = 0; c < columns; ++c) {
    switch (random() % 6) {
      case 0:
        tuning.ban.push_back(static_cast<int32_t>(c));
        break;
      case 1:
        tuning.bias.emplace_back(static_cast<int32_t>(c), 1.5f);
        break;
      case 2:
        if (tuning.force.empty()) {
          tuning.force.push_back(static_cast<int32_t>(c));
        }
        break;
      default:
        break;
    }
  }
  if (random() % 2 == 0) tuning.k = 1 + random() % columns;
  if (random() % 3 == 0) tuning.top_p = 0.5;
  if (!CheckGateTuning(config, tuning).ok()) {
    tuning.force.clear();
    tuning.top_p.reset();
    tuning.k.reset();
  }
  if (!CheckGateTuning(config, tuning).ok()) tuning = GateTuning{};
  return tuning;
}

// Sequences of 0..9 tokens, of a few requests; ties within a row, equal rows,
// padding, and tunings now and then.
inline TestBatch RandomBatch(const GateConfig& config, int num_sequences,
                             std::mt19937& random) {
  TestBatch batch;
  for (int s = 0; s < num_sequences; ++s) {
    const int64_t begin = batch.num_tokens;
    batch.num_tokens += random() % 10;
    batch.sequences.push_back(
        {.begin = begin, .end = batch.num_tokens, .request = 100 - s / 2 % 3u});
    batch.tunings.push_back(random() % 3 == 0 ? RandomTuning(config, random)
                                              : GateTuning{});
  }
  const auto columns = static_cast<size_t>(config.num_columns());
  const auto rows = config.scores_sequences()
                        ? batch.sequences.size()
                        : static_cast<size_t>(batch.num_tokens);
  batch.logits = RandomLogits(rows * columns, random);
  for (size_t r = 0; r < rows; ++r) {
    float* row = batch.logits.data() + r * columns;
    if (random() % 4 == 0) row[random() % columns] = row[random() % columns];
    if (r > 0 && random() % 5 == 0) std::copy_n(row - columns, columns, row);
  }
  for (int64_t t = 0; t < batch.num_tokens; ++t) {
    batch.valid.push_back(random() % 8 != 0);
  }
  return batch;
}

// Token t's (virtual expert, weight) in the order of aidx.
inline std::vector<std::pair<int32_t, float>> RowsOf(const RoutingPlan& plan,
                                                     int64_t t) {
  std::vector<std::pair<int32_t, float>> rows;
  for (int64_t a = plan.toff[static_cast<size_t>(t)];
       a < plan.toff[static_cast<size_t>(t) + 1]; ++a) {
    const int64_t row = plan.aidx[static_cast<size_t>(a)];
    const auto after = std::upper_bound(plan.off.begin(), plan.off.end(), row);
    rows.emplace_back(static_cast<int32_t>(after - plan.off.begin() - 1),
                      plan.wt[static_cast<size_t>(row)]);
  }
  return rows;
}

// The rules again, for logits that are finite. Nothing here is shared with the
// pipeline but the configuration.
struct NaiveGate {
  const GateConfig& config;
  std::vector<float> correction = {};

  struct Choice {
    int32_t column;
    double share;
    double weight;
  };

  double KeyOf(const std::vector<double>& l, size_t c) const {
    if (config.score != ScoreKind::kSigmoid) return l[c];
    const auto s = static_cast<float>(1 / (1 + std::exp(-l[c])));
    return correction.empty() ? s : s + correction[c];
  }

  std::vector<Choice> ChooseFor(const float* logits,
                                const GateTuning& tuning) const {
    const auto n = static_cast<size_t>(config.num_columns());
    std::vector<double> l(logits, logits + n);
    std::set<size_t> open;
    for (size_t c = 0; c < n; ++c) open.insert(c);
    for (const auto& [id, bias] : tuning.bias) {
      l[static_cast<size_t>(id)] = double{logits[id] + bias};
    }
    for (const int32_t id : tuning.ban) open.erase(static_cast<size_t>(id));
    double max = -1e30;
    for (const size_t c : open) max = std::max(max, l[c]);
    double total = 0;
    for (const size_t c : open) total += std::exp(l[c] - max);
    const auto share = [&](size_t c) {
      return config.score == ScoreKind::kSigmoid ? 1 / (1 + std::exp(-l[c]))
                                                 : std::exp(l[c] - max) / total;
    };

    std::set<size_t> candidates = open;
    if (config.num_groups > 1) {
      const auto size = n / static_cast<size_t>(config.num_groups);
      std::vector<std::pair<double, size_t>> groups;
      for (size_t g = 0; g < n / size; ++g) {
        std::vector<double> keys;
        for (size_t c = g * size; c < (g + 1) * size; ++c) {
          if (open.contains(c)) keys.push_back(KeyOf(l, c));
        }
        std::sort(keys.rbegin(), keys.rend());
        double score = keys.empty() ? -1e30 : keys[0];
        if (config.group_score == GroupScore::kSumTop2 && keys.size() > 1) {
          score =
              double{static_cast<float>(keys[0]) + static_cast<float>(keys[1])};
        }
        groups.emplace_back(-score, g);
      }
      std::sort(groups.begin(), groups.end());
      candidates.clear();
      for (int64_t i = 0; i < config.keep_groups; ++i) {
        const size_t g = groups[static_cast<size_t>(i)].second;
        for (size_t c = g * size; c < (g + 1) * size; ++c) {
          if (open.contains(c)) candidates.insert(c);
        }
      }
    }

    std::vector<size_t> ranked;
    for (const int32_t id : tuning.force) {
      ranked.push_back(static_cast<size_t>(id));
      candidates.erase(static_cast<size_t>(id));
    }
    std::sort(ranked.begin(), ranked.end(), [&](size_t a, size_t b) {
      return std::pair(-l[a], a) < std::pair(-l[b], b);
    });
    std::vector<size_t> rest(candidates.begin(), candidates.end());
    const bool all = config.select == SelectKind::kAll ||
                     config.select == SelectKind::kExpertChoice;
    if (!all) {
      std::sort(rest.begin(), rest.end(), [&](size_t a, size_t b) {
        return std::pair(-KeyOf(l, a), a) < std::pair(-KeyOf(l, b), b);
      });
    }
    ranked.insert(ranked.end(), rest.begin(), rest.end());

    size_t k = n;
    double p = 1;
    if (config.select == SelectKind::kTopP) {
      if (config.k_max > 0) k = static_cast<size_t>(config.k_max);
      p = config.p;
    } else if (!all) {
      k = static_cast<size_t>(config.k);
    }
    if (tuning.k) k = static_cast<size_t>(*tuning.k);
    if (tuning.top_p) p = *tuning.top_p;
    if (ranked.size() > k) ranked.resize(k);
    if (p < 1) {
      double sum = 0;
      for (size_t i = 0; i < ranked.size(); ++i) {
        sum += share(ranked[i]);
        if (sum > p && i + 1 >= tuning.force.size()) ranked.resize(i + 1);
      }
    }

    std::vector<Choice> choices;
    double real = 0;
    for (const size_t c : ranked) {
      if (static_cast<int64_t>(c) < config.num_experts) real += share(c);
    }
    for (size_t i = 0; i < ranked.size(); ++i) {
      const size_t c = ranked[i];
      if (static_cast<int64_t>(c) >= config.num_experts) continue;
      double s = share(c);
      if (config.score == ScoreKind::kSparsemixer) {
        double around = 0;
        for (const size_t o : open) {
          if (std::find(ranked.begin(), ranked.begin() + i, o) !=
              ranked.begin() + i) {
            continue;
          }
          if (l[o] > l[c]) continue;
          const float far = static_cast<float>(l[c]) - static_cast<float>(l[o]);
          const float scale = std::max(std::abs(static_cast<float>(l[o])),
                                       static_cast<float>(l[c]));
          if (far / scale > 2 * config.jitter) continue;
          around += std::exp(l[o] - l[c]);
        }
        s = 1 / around;
      }
      double w = s;
      if (config.weight == WeightKind::kRenorm) w = s / real;
      if (config.weight == WeightKind::kOne) w = 1;
      if (config.weight == WeightKind::kSigmoidResidual) {
        w = 1 / (1 + std::exp(-l[c]));
      }
      choices.push_back({static_cast<int32_t>(c), s, w * config.weight_scale});
    }
    return choices;
  }

  int32_t VirtualOf(int32_t column) const {
    if (config.alias.empty()) return column;
    const auto& alias = config.alias;
    return static_cast<int32_t>(std::find(alias.begin(), alias.end(),
                                          alias[static_cast<size_t>(column)]) -
                                alias.begin());
  }

  // Each token's (virtual expert, weight), in rank order; not for soft_merge
  // or a random order.
  std::vector<std::vector<std::pair<int32_t, double>>> Route(
      const TestBatch& batch) const {
    struct Row {
      int32_t expert;
      double share;
      double weight;
    };
    std::vector<std::vector<Row>> rows(static_cast<size_t>(batch.num_tokens));
    std::map<uint64_t, std::vector<size_t>> segments;
    for (size_t s = 0; s < batch.sequences.size(); ++s) {
      const GateSequence& sequence = batch.sequences[s];
      for (int64_t t = sequence.begin; t < sequence.end; ++t) {
        const auto token = static_cast<size_t>(t);
        if (batch.valid[token] == 0) continue;
        const size_t row = config.scores_sequences() ? s : token;
        for (const Choice& c :
             ChooseFor(batch.logits.data() +
                           row * static_cast<size_t>(config.num_columns()),
                       batch.tunings[s])) {
          const int32_t v = VirtualOf(c.column);
          const auto same =
              std::find_if(rows[token].begin(), rows[token].end(),
                           [&](const Row& r) { return r.expert == v; });
          if (same == rows[token].end()) {
            rows[token].push_back({v, c.share, c.weight});
          } else {
            same->share += c.share;
            same->weight += c.weight;
          }
        }
        const uint64_t segment = config.capacity_scope == Scope::kBatch ? 0
                                 : config.capacity_scope == Scope::kRequest
                                     ? sequence.request
                                     : s;
        segments[segment].push_back(token);
      }
    }
    const bool by_score = config.select == SelectKind::kExpertChoice ||
                          config.select == SelectKind::kPatchSelect;
    std::set<std::pair<size_t, int32_t>> gone;
    if (by_score || config.capacity == CapacityMode::kDrop) {
      std::set<int32_t> experts;
      for (int32_t e = 0; e < config.num_experts; ++e) {
        experts.insert(VirtualOf(e));
      }
      for (const auto& [segment, tokens] : segments) {
        const double n = static_cast<double>(tokens.size());
        const double e = static_cast<double>(experts.size());
        const double k = static_cast<double>(
            config.select == SelectKind::kTopP ? config.k_max : config.k);
        double room = std::ceil((config.select == SelectKind::kPatchSelect
                                     ? config.cf
                                     : config.capacity_factor) *
                                n * k / e);
        if (config.select == SelectKind::kExpertChoice) {
          room = std::min(n, std::max(static_cast<double>(config.min_capacity),
                                      std::round(config.cf * n / e)));
        }
        for (const int32_t expert : experts) {
          std::vector<std::pair<double, size_t>> order;
          for (const size_t t : tokens) {
            for (const Row& r : rows[t]) {
              if (r.expert != expert) continue;
              const bool priority =
                  by_score || config.capacity_order == CapacityOrder::kPriority;
              order.emplace_back(priority ? -r.share : 0.0, t);
            }
          }
          std::sort(order.begin(), order.end());
          for (size_t i = 0; i < order.size(); ++i) {
            if (static_cast<double>(i) >= room) {
              gone.emplace(order[i].second, expert);
            }
          }
        }
      }
    }
    std::vector<std::vector<std::pair<int32_t, double>>> result(rows.size());
    for (size_t t = 0; t < rows.size(); ++t) {
      for (const Row& r : rows[t]) {
        if (!gone.contains({t, r.expert})) {
          result[t].emplace_back(r.expert, r.weight);
        }
      }
    }
    return result;
  }
};

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_GATE_TESTING_H_
