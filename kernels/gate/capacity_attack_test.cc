// What a limited capacity costs: tokens dropped under a skewed load
// (MegaBlocks), and answers that a neighbour changes (Buffer Overflow in
// Mixture of Experts, arXiv 2402.05526). docs/papers/ has the numbers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>

#include "kernels/gate/gate_testing.h"

namespace conclave::kernels {
namespace {

Gate MakeGate(const std::string& keys) {
  const absl::StatusOr<GateConfig> config = ParseGateConfig(keys);
  EXPECT_TRUE(config.ok()) << config.status();
  absl::StatusOr<Gate> gate = Gate::Create(*config);
  EXPECT_TRUE(gate.ok()) << gate.status();
  return *std::move(gate);
}

// 2048 tokens, each of which wants one of eight experts, the e-th with
// probability proportional to 1 / (e + 1)^skew.
struct ZipfLoad {
  std::vector<float> logits;
  int64_t largest = 0;

  explicit ZipfLoad(double skew) {
    std::mt19937 random(7);
    std::vector<double> odds;
    for (int e = 1; e <= 8; ++e) odds.push_back(std::pow(e, -skew));
    std::discrete_distribution<size_t> zipf(odds.begin(), odds.end());
    std::vector<int64_t> load(8);
    logits.assign(2048 * 8, 0.0f);
    for (size_t t = 0; t < 2048; ++t) {
      const size_t e = zipf(random);
      logits[t * 8 + e] = 5.0f;
      ++load[e];
    }
    largest = *std::max_element(load.begin(), load.end());
  }

  double DroppedShare(const std::string& capacity) const {
    Gate gate = MakeGate("experts.n=8 gate.k=1 " + capacity);
    RoutingPlan plan;
    EXPECT_TRUE(gate.Route({.num_tokens = 2048, .logits = logits}, &plan).ok());
    EXPECT_EQ(plan.num_rows() + plan.stats.dropped, 2048);
    return static_cast<double>(plan.stats.dropped) / 2048;
  }
};

TEST(MegaBlocks, CapacityOneDropsAThirdUnderZipfAndDroplessNothing) {
  const ZipfLoad one(1.0);
  const double at_one = one.DroppedShare("capacity.mode=drop capacity.cf=1");
  const double needed = static_cast<double>(one.largest) / (2048.0 / 8);
  const double steep =
      ZipfLoad(1.5).DroppedShare("capacity.mode=drop capacity.cf=1");
  std::printf(
      "zipf 1.0: cf=1 drops %.1f %%, none from cf=%.2f; zipf 1.5: %.1f %%\n",
      100 * at_one, needed, 100 * steep);
  EXPECT_NEAR(at_one, 0.31, 0.03);
  EXPECT_NEAR(steep, 0.46, 0.03);
  EXPECT_NEAR(needed, 3.0, 0.2);
  EXPECT_EQ(one.DroppedShare("capacity.mode=drop capacity.cf=3.2"), 0);
  EXPECT_EQ(one.DroppedShare("capacity.mode=dropless"), 0);
}

// A layer of eight linear experts behind a top-1 gate; a query is four tokens
// of a small vocabulary, its answer the largest of eight readouts of the mean.
class Victim {
 public:
  static constexpr size_t kWidth = 16;
  static constexpr size_t kExperts = 8;
  static constexpr size_t kVocabulary = 64;
  static constexpr size_t kQueries = 16;
  static constexpr size_t kTokens = 4;
  static constexpr size_t kAttackers = 4;

  using Query = std::vector<size_t>;

  explicit Victim(uint32_t seed) : random_(seed) {
    // Logits of the gate and experts' results then have a deviation of 2.
    embedding_ = Normal(kVocabulary * kWidth, 1.0);
    gate_ = Normal(kExperts * kWidth, 0.5);
    experts_ = Normal(kExperts * kWidth * kWidth, 0.5);
    readout_ = Normal(8 * kWidth, 1.0);
    for (size_t q = kAttackers; q < kQueries; ++q) {
      benign_.push_back(RandomQuery());
    }
  }

  Query RandomQuery() {
    Query query;
    for (size_t i = 0; i < kTokens; ++i) {
      query.push_back(random_() % kVocabulary);
    }
    return query;
  }

  // The last query's readouts, with `first` in the first four slots; or alone.
  std::vector<double> Answer(Gate& gate, const std::vector<Query>& first,
                             bool alone = false) {
    std::vector<Query> batch;
    if (!alone) {
      batch = first;
      batch.insert(batch.end(), benign_.begin(), benign_.end() - 1);
    }
    batch.push_back(benign_.back());
    TestBatch in;
    for (const Query& query : batch) {
      const int64_t begin = in.num_tokens;
      for (const size_t token : query) {
        for (size_t e = 0; e < kExperts; ++e) {
          in.logits.push_back(static_cast<float>(
              Dot(&embedding_[token * kWidth], &gate_[e * kWidth])));
        }
        in.valid.push_back(1);
        ++in.num_tokens;
      }
      in.sequences.push_back({.begin = begin,
                              .end = in.num_tokens,
                              .request = in.sequences.size()});
      in.tunings.emplace_back();
    }
    RoutingPlan plan;
    GateInput input = in.input();
    input.seed = 11;
    EXPECT_TRUE(gate.Route(input, &plan).ok());
    std::vector<double> mean(kWidth);
    for (size_t i = 0; i < kTokens; ++i) {
      const double* x = &embedding_[benign_.back()[i] * kWidth];
      const auto t = in.num_tokens - static_cast<int64_t>(kTokens - i);
      for (size_t r = 0; r < kWidth; ++r) mean[r] += x[r];
      for (const auto& [e, weight] : RowsOf(plan, t)) {
        const auto expert = static_cast<size_t>(e);
        for (size_t r = 0; r < kWidth; ++r) {
          mean[r] += double{weight} *
                     Dot(x, &experts_[(expert * kWidth + r) * kWidth]);
        }
      }
    }
    std::vector<double> answer;
    for (size_t c = 0; c < 8; ++c) {
      answer.push_back(Dot(mean.data(), &readout_[c * kWidth]));
    }
    return answer;
  }

  // Out of `probes` tries at the first four queries (300 random ones: the
  // attacker keeps the best; 1: benign neighbours), the worst that befell the
  // victim: 0 nothing, 1 its output changed, 2 its answer flipped.
  int Worst(Gate& gate, int probes) {
    Gate dropless = MakeGate("experts.n=8 gate.k=1");
    const std::vector<double> want = Answer(dropless, {}, true);
    int worst = 0;
    for (int probe = 0; probe < probes && worst < 2; ++probe) {
      // An attacker repeats one query: its tokens fill the fewest experts.
      std::vector<Query> first(kAttackers, RandomQuery());
      if (probes == 1) {
        for (Query& query : first) query = RandomQuery();
      }
      const std::vector<double> have = Answer(gate, first);
      if (have == want) continue;
      const bool flipped =
          std::max_element(have.begin(), have.end()) - have.begin() !=
          std::max_element(want.begin(), want.end()) - want.begin();
      worst = std::max(worst, flipped ? 2 : 1);
    }
    return worst;
  }

 private:
  std::vector<double> Normal(size_t n, double deviation) {
    std::normal_distribution<double> normal(0, deviation);
    std::vector<double> values(n);
    for (double& v : values) v = normal(random_);
    return values;
  }
  static double Dot(const double* a, const double* b) {
    double sum = 0;
    for (size_t i = 0; i < kWidth; ++i) sum += a[i] * b[i];
    return sum;
  }

  std::mt19937 random_;
  std::vector<double> embedding_, gate_, experts_, readout_;
  std::vector<Query> benign_;
};

struct Rates {
  double changed = 0;
  double flipped = 0;
};

// Over 20 seeds.
Rates Measure(const std::string& name, const std::string& keys, int probes) {
  Gate gate = MakeGate("experts.n=8 gate.k=1 " + keys);
  Rates rates;
  for (uint32_t seed = 0; seed < 20; ++seed) {
    // A control is one draw; eight of them, for less noise.
    const int draws = probes == 1 ? 8 : 1;
    Victim victim(seed);
    for (int i = 0; i < draws; ++i) {
      const int worst = victim.Worst(gate, probes);
      rates.changed += (worst > 0) / 20.0 / draws;
      rates.flipped += (worst > 1) / 20.0 / draws;
    }
  }
  std::printf("%-28s %-8s changed %3.0f %%, flipped %3.0f %%\n", name.c_str(),
              probes == 1 ? "control" : "attack", 100 * rates.changed,
              100 * rates.flipped);
  return rates;
}

std::string Shared(double cf, const char* more = "") {
  return fmt::format(
      "capacity.mode=drop capacity.cf={} capacity.scope=batch "
      "security.allow_cross_request=true {}",
      cf, more);
}

TEST(BufferOverflow, ASharedCapacityIsAttackedAndDroplessIsNot) {
  Measure("cf=1.25", Shared(1.25), 300);
  Measure("cf=1.25", Shared(1.25), 1);
  Measure("cf=1.25, random order", Shared(1.25, "capacity.order=random"), 300);
  Measure("cf=2, random order", Shared(2, "capacity.order=random"), 300);
  Measure("cf=4", Shared(4), 300);
  const Rates attack = Measure("cf=2", Shared(2), 300);
  const Rates control = Measure("cf=2", Shared(2), 1);
  // Small capacities prove nothing: crowding alone changes the victim there.
  EXPECT_GE(attack.changed, 3 * control.changed);
  EXPECT_GT(attack.flipped, 0);
  // Exactly nothing: no capacity, or one that is the request's own.
  const Rates dropless = Measure("dropless", "capacity.mode=dropless", 300);
  EXPECT_EQ(dropless.changed, 0);
  const std::string own =
      "capacity.mode=drop capacity.cf=8 capacity.scope=request";
  EXPECT_EQ(Measure("cf=8, scope=request", own, 300).changed, 0);
}

}  // namespace
}  // namespace conclave::kernels
