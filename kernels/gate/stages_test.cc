// Each stage on numbers worked out by hand, and what the papers warn of.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/gate/gate_testing.h"
#include "kernels/gate/variants.h"
#include "kernels/logits_math.h"

namespace conclave::kernels {

extern int64_t num_allocations;  // counting_new_test.cc

namespace {

using Rows = std::vector<std::pair<int32_t, float>>;

struct Routed {
  absl::Status status;
  RoutingPlan plan;
};

Routed RouteOne(const char* keys, const std::vector<float>& logits,
                const GateTuning* tuning = nullptr,
                std::span<const float> correction = {},
                std::span<const float> pre = {}) {
  const absl::StatusOr<GateConfig> config = ParseGateConfig(keys);
  EXPECT_TRUE(config.ok()) << config.status();
  absl::StatusOr<Gate> gate = Gate::Create(*config, correction);
  EXPECT_TRUE(gate.ok()) << gate.status();
  const auto tokens =
      static_cast<int64_t>(logits.size()) / config->num_columns();
  const GateSequence sequence = {.begin = 0, .end = tokens, .tuning = tuning};
  Routed routed;
  GateInput input;
  input.num_tokens = tokens;
  input.logits = logits;
  input.pre = pre;
  input.sequences = {&sequence, 1};
  input.detailed_stats = true;
  routed.status = gate->Route(input, &routed.plan);
  return routed;
}

std::vector<int32_t> ExpertsOf(const RoutingPlan& plan, int64_t token) {
  std::vector<int32_t> experts;
  for (const auto& [e, weight] : RowsOf(plan, token)) experts.push_back(e);
  return experts;
}

using Ids = std::vector<int32_t>;

// What the engine did before it had gates: insertion, odds in double.
Rows PlainTopK(const float* row, int64_t num_experts, int64_t k, bool renorm) {
  Ids chosen(static_cast<size_t>(num_experts));
  for (int64_t e = 0; e < num_experts; ++e) {
    chosen[static_cast<size_t>(e)] = static_cast<int32_t>(e);
  }
  std::stable_sort(chosen.begin(), chosen.end(),
                   [&](int32_t a, int32_t b) { return row[a] > row[b]; });
  chosen.resize(static_cast<size_t>(k));
  std::vector<double> odds(static_cast<size_t>(num_experts));
  ExpWeights({row, static_cast<size_t>(num_experts)}, row[chosen[0]], 1.0,
             odds.data());
  double sum = 0;
  if (renorm) {
    for (const int32_t e : chosen) sum += odds[static_cast<size_t>(e)];
  } else {
    for (const double o : odds) sum += o;
  }
  Rows rows;
  for (const int32_t e : chosen) {
    rows.emplace_back(e,
                      static_cast<float>(odds[static_cast<size_t>(e)] / sum));
  }
  return rows;
}

TEST(GateStages, SoftmaxTopKHasThePlainLoopsBits) {
  std::mt19937 random(1);
  for (const bool renorm : {false, true}) {
    for (const int64_t n : {1, 2, 8, 60, 64, 128}) {
      for (const int64_t k : {int64_t{1}, int64_t{2}, int64_t{8}, n}) {
        if (k > n) continue;
        GateConfig config;
        config.num_experts = n;
        config.k = k;
        config.weight = renorm ? WeightKind::kRenorm : WeightKind::kRaw;
        absl::StatusOr<Gate> gate = Gate::Create(config);
        ASSERT_TRUE(gate.ok()) << gate.status();
        std::vector<float> logits =
            RandomLogits(static_cast<size_t>(20 * n), random);
        // Ties: a grid of halves in every other row.
        for (size_t i = 0; i < logits.size(); ++i) {
          if (i / static_cast<size_t>(n) % 2 == 0) {
            logits[i] = std::round(logits[i]) / 2;
          }
        }
        RoutingPlan plan;
        ASSERT_TRUE(
            gate->Route({.num_tokens = 20, .logits = logits}, &plan).ok());
        for (int64_t t = 0; t < 20; ++t) {
          EXPECT_EQ(RowsOf(plan, t),
                    PlainTopK(logits.data() + t * n, n, k, renorm));
        }
      }
    }
  }
}

TEST(GateStages, TheCorrectionChoosesAndNeverWeighs) {
  const std::vector<float> logits = {2, 1, 0, -1};
  const std::vector<float> correction = {0, 0, 0, 1};
  const Routed r =
      RouteOne("experts.n=4 gate.k=2 gate.score=sigmoid gate.weight=renorm",
               logits, nullptr, correction);
  // 0.269 + 1 before 0.881.
  const double first = 1 / (1 + std::exp(1.0));
  const double second = 1 / (1 + std::exp(-2.0));
  ASSERT_EQ(ExpertsOf(r.plan, 0), (Ids{3, 0}));
  const Rows rows = RowsOf(r.plan, 0);
  EXPECT_NEAR(rows[0].second, first / (first + second), 1e-7);
  EXPECT_NEAR(rows[1].second, second / (first + second), 1e-7);
}

TEST(GateStages, GroupsByTheirBestAndByTheirTwoBest) {
  // Group 0 has the best expert, group 1 the two best together.
  const std::vector<float> logits = {3, -9, 2, 2, 1, 1};
  EXPECT_EQ(ExpertsOf(RouteOne("experts.n=6 gate.k=2 gate.score=sigmoid "
                               "gate.groups=3 gate.keep_groups=1",
                               logits)
                          .plan,
                      0),
            (Ids{0, 1}));
  EXPECT_EQ(ExpertsOf(RouteOne("experts.n=6 gate.k=2 gate.score=sigmoid "
                               "gate.groups=3 gate.keep_groups=1 "
                               "gate.group_score=sum_top2",
                               logits)
                          .plan,
                      0),
            (Ids{2, 3}));
  // Equal groups: the lower.
  EXPECT_EQ(ExpertsOf(RouteOne("experts.n=4 gate.k=1 gate.groups=2 "
                               "gate.keep_groups=1",
                               {1, 5, 5, 1})
                          .plan,
                      0),
            (Ids{1}));
}

TEST(GateStages, SparsemixerWeighsAmongWhatIsNear) {
  // jitter 0.1: within 20 % of the larger magnitude. 4 and 3.5 are near each
  // other; 2 is far from both.
  const Routed r =
      RouteOne("experts.n=3 gate.k=2 gate.score=sparsemixer gate.jitter=0.1",
               {4, 3.5, 2});
  const Rows rows = RowsOf(r.plan, 0);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].first, 0);
  EXPECT_NEAR(rows[0].second, 1 / (1 + std::exp(-0.5)), 1e-6);
  EXPECT_EQ(rows[1].first, 1);
  EXPECT_EQ(rows[1].second, 1.0f);
}

TEST(GateStages, TopPKeepsTheExpertThatCrosses) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f),
                                     std::log(0.2f)};
  const auto count = [&](const char* keys) {
    return RowsOf(RouteOne(keys, logits).plan, 0).size();
  };
  EXPECT_EQ(count("experts.n=3 gate.select=topp gate.p=0"), 1u);
  EXPECT_EQ(count("experts.n=3 gate.select=topp gate.p=0.45"), 1u);
  EXPECT_EQ(count("experts.n=3 gate.select=topp gate.p=0.6"), 2u);
  EXPECT_EQ(count("experts.n=3 gate.select=topp gate.p=0.9"), 3u);
  EXPECT_EQ(count("experts.n=3 gate.select=topp gate.p=1"), 3u);
  EXPECT_EQ(count("experts.n=3 gate.select=topp gate.p=0.9 gate.k_max=2"), 2u);
}

TEST(GateStages, NullExpertsTakeNoRowAndNoWeight) {
  const char* keys = "experts.n=2 null.n=2 gate.k=2 gate.weight=renorm";
  const Routed r = RouteOne(keys, {1, 0, 5, -5,         // null 2, then expert 0
                                   0, 1, 9, 9,          // nulls alone
                                   0, -900, 1, -999});  // null 2, expert 0
  EXPECT_EQ(RowsOf(r.plan, 0), (Rows{{0, 1.0f}}));
  EXPECT_TRUE(RowsOf(r.plan, 1).empty());
  EXPECT_EQ(RowsOf(r.plan, 2), (Rows{{0, 1.0f}}));
  EXPECT_EQ(r.plan.stats.null_count, 4);
  EXPECT_EQ(r.plan.stats.experts_per_token, (std::vector<int64_t>{1, 2}));
  // All real ones vanish beside the null: their own softmax.
  const Routed far =
      RouteOne("experts.n=2 null.n=1 gate.k=3 gate.weight=renorm", {0, 0, 900});
  EXPECT_EQ(RowsOf(far.plan, 0), (Rows{{0, 0.5f}, {1, 0.5f}}));
}

TEST(GateStages, AliasesAreOneRow) {
  const Routed r = RouteOne(
      "experts.n=3 gate.k=2 gate.weight=renorm experts.alias=2,1,2", {1, 0, 2});
  EXPECT_EQ(r.plan.num_rows(), 1);
  EXPECT_EQ(RowsOf(r.plan, 0), (Rows{{0, 1.0f}}));
  EXPECT_EQ(r.plan.phys, (Ids{2, 1, 2}));
}

TEST(GateStages, EqualScoresGoToTheLowerExpertThenTheLowerToken) {
  EXPECT_EQ(ExpertsOf(RouteOne("experts.n=4 gate.k=2", {1, 1, 1, 1}).plan, 0),
            (Ids{0, 1}));
  const Routed r = RouteOne(
      "experts.n=2 gate.k=1 capacity.mode=drop capacity.cf=0.5 "
      "capacity.order=priority",
      {5, 0, 5, 0, 5, 0, 5, 0});
  EXPECT_EQ(r.plan.tok, (Ids{0}));
  EXPECT_EQ(r.plan.stats.dropped, 3);
}

TEST(GateStages, AllTokensToOneExpert) {
  std::vector<float> logits;
  for (int t = 0; t < 50; ++t) {
    for (const float l : {0.0f, 9.0f, 0.0f}) logits.push_back(l);
  }
  const Routed r = RouteOne("experts.n=3 gate.k=1", logits);
  EXPECT_EQ(r.plan.off, (std::vector<int64_t>{0, 0, 50, 50}));
  EXPECT_EQ(r.plan.stats.load, (std::vector<int64_t>{0, 50, 0}));
}

TEST(GateStages, TheNextTakesABannedExpertsPlace) {
  const std::vector<float> logits = {-4, -3, -2, -1};
  GateTuning tuning;
  tuning.ban = {3, 2};
  // Negative logits: a ban that multiplies would promote them.
  EXPECT_EQ(
      ExpertsOf(RouteOne("experts.n=4 gate.k=2", logits, &tuning).plan, 0),
      (Ids{1, 0}));
  tuning.ban = {3, 2, 1};
  const Routed r =
      RouteOne("experts.n=4 gate.k=2 gate.weight=renorm", logits, &tuning);
  EXPECT_EQ(RowsOf(r.plan, 0), (Rows{{0, 1.0f}}));
  tuning = {};
  tuning.force = {0};
  EXPECT_EQ(
      ExpertsOf(RouteOne("experts.n=4 gate.k=2", logits, &tuning).plan, 0),
      (Ids{0, 3}));
  tuning = {};
  tuning.bias = {{0, 10.0f}};
  EXPECT_EQ(
      ExpertsOf(RouteOne("experts.n=4 gate.k=2", logits, &tuning).plan, 0),
      (Ids{0, 3}));
  tuning = {};
  tuning.k = 3;
  EXPECT_EQ(
      ExpertsOf(RouteOne("experts.n=4 gate.k=2", logits, &tuning).plan, 0),
      (Ids{3, 2, 1}));
  tuning = {};
  tuning.top_p = 0.5;
  EXPECT_EQ(
      ExpertsOf(RouteOne("experts.n=4 gate.k=2", logits, &tuning).plan, 0),
      (Ids{3}));
}

TEST(GateStages, ExpertChoiceFillsEveryExpertAndSeesTheFuture) {
  const char* keys =
      "experts.n=4 gate.select=expert_choice gate.cf=1 "
      "capacity.scope=sequence";
  std::mt19937 random(5);
  std::vector<float> logits = RandomLogits(16 * 4, random);
  const Routed before = RouteOne(keys, logits);
  EXPECT_EQ(before.plan.stats.load, (std::vector<int64_t>{4, 4, 4, 4}));
  EXPECT_EQ(before.plan.stats.dropped, 0);
  // Later tokens that want expert 0 push earlier ones out of it.
  for (int t = 0; t < 16; ++t) {
    for (const float l : {20.0f, 0.0f, 0.0f, 0.0f}) logits.push_back(l);
  }
  const Routed after = RouteOne(keys, logits);
  EXPECT_EQ(after.plan.tok[0], 16);
  EXPECT_NE(before.plan.tok[0], 16);
}

TEST(GateStages, PreFollowsItsRows) {
  const std::vector<float> logits = {0, 1, 2, 2, 1, 0};
  std::vector<float> pre(2 * 3 * 2);
  for (size_t i = 0; i < pre.size(); ++i) pre[i] = static_cast<float>(i);
  const Routed r =
      RouteOne("experts.n=3 gate.k=1 gate.scorer=act_norm experts.d_low=2",
               logits, nullptr, {}, pre);
  // Rows: (token 1, expert 0), (token 0, expert 2).
  EXPECT_EQ(r.plan.tok, (Ids{1, 0}));
  EXPECT_EQ(r.plan.pre, (std::vector<float>{6, 7, 4, 5}));
}

TEST(GateStages, DetailedStats) {
  const Routed r = RouteOne("experts.n=2 gate.k=1", {0, 0, std::log(3.0f), 0});
  ASSERT_EQ(r.plan.stats.prob_mean.size(), 2u);
  EXPECT_NEAR(r.plan.stats.prob_mean[0], 0.625, 1e-6);
  EXPECT_NEAR(r.plan.stats.prob_mean[1], 0.375, 1e-6);
  EXPECT_NEAR(r.plan.stats.entropy, (0.693147 + 0.562335) / 2, 1e-5);
}

TEST(GateStages, ABatchOfOneRequestIsThatRequestsScope) {
  absl::StatusOr<Gate> gate = Gate::Create(*ParseGateConfig(
      "experts.n=2 gate.k=1 capacity.mode=drop capacity.cf=1 "
      "capacity.scope=batch security.allow_cross_request=true"));
  ASSERT_TRUE(gate.ok());
  const std::vector<float> logits(8, 1.0f);
  std::vector<GateSequence> sequences = {{.begin = 0, .end = 2, .request = 7},
                                         {.begin = 2, .end = 4, .request = 7}};
  RoutingPlan plan;
  GateInput input = {.num_tokens = 4, .logits = logits, .sequences = sequences};
  ASSERT_TRUE(gate->Route(input, &plan).ok());
  EXPECT_EQ(plan.stats.effective_scope, Scope::kRequest);
  sequences[1].request = 8;
  ASSERT_TRUE(gate->Route(input, &plan).ok());
  EXPECT_EQ(plan.stats.effective_scope, Scope::kBatch);
}

TEST(GateStages, WrongLengthsAreRefused) {
  absl::StatusOr<Gate> gate =
      Gate::Create(*ParseGateConfig("experts.n=4 gate.k=2"));
  ASSERT_TRUE(gate.ok());
  RoutingPlan plan;
  const std::vector<float> logits(8);
  EXPECT_FALSE(gate->Route({.num_tokens = 3, .logits = logits}, &plan).ok());
  const std::vector<GateSequence> overlap = {{.begin = 0, .end = 2},
                                             {.begin = 1, .end = 2}};
  EXPECT_FALSE(
      gate->Route({.num_tokens = 2, .logits = logits, .sequences = overlap},
                  &plan)
          .ok());
  EXPECT_FALSE(Gate::Create(gate->config(), logits).ok());
}

TEST(GateStages, NothingIsAllocatedOnceBuffersHaveGrown) {
  for (const char* keys :
       {"experts.n=64 gate.k=8", "experts.n=8 gate.select=topp gate.p=0.6",
        "experts.n=8 gate.k=2 capacity.mode=drop capacity.cf=1"}) {
    const GateConfig config = *ParseGateConfig(keys);
    absl::StatusOr<Gate> gate = Gate::Create(config);
    ASSERT_TRUE(gate.ok());
    std::mt19937 random(3);
    const std::vector<float> logits =
        RandomLogits(static_cast<size_t>(64 * config.num_columns()), random);
    RoutingPlan plan;
    const auto route = [&](int64_t tokens) {
      return gate
          ->Route({.num_tokens = tokens,
                   .logits = std::span(logits).first(
                       static_cast<size_t>(tokens * config.num_columns()))},
                  &plan)
          .ok();
    };
    ASSERT_TRUE(route(64));
    const int64_t before = num_allocations;
    bool ok = true;
    for (const int64_t tokens : {1, 64, 7, 1, 64}) ok &= route(tokens);
    EXPECT_EQ(num_allocations, before) << keys;
    EXPECT_TRUE(ok);
  }
}

}  // namespace
}  // namespace conclave::kernels
