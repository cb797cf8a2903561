// What holds for every gate: the invariants of the token-level specification,
// over all published variants and the corners between them.
#include "kernels/gate/gate.h"

#include <gtest/gtest.h>

#include <bit>
#include <numeric>
#include <optional>
#include <string>

#include "kernels/gate/gate_testing.h"
#include "kernels/gate/variants.h"

namespace conclave::kernels {
namespace {

struct GateCase {
  std::string name;
  std::string variant;  // "": none
  std::string keys;
};

void PrintTo(const GateCase& c, std::ostream* out) { *out << c.name; }

std::vector<GateCase> AllCases() {
  std::vector<GateCase> cases;
  for (const GateVariant& variant : GateVariants()) {
    cases.push_back({std::string(variant.name), std::string(variant.name),
                     "experts.n=16 experts.d_low=4"});
  }
  const std::pair<const char*, const char*> more[] = {
      {"one_expert", "experts.n=1 gate.k=1"},
      {"one_expert_renorm", "experts.n=1 gate.k=1 gate.weight=renorm"},
      {"k_is_all", "experts.n=5 gate.k=5"},
      {"k_is_many", "experts.n=48 gate.k=40 gate.weight=renorm"},
      {"weight_one", "experts.n=6 gate.k=2 gate.weight=one"},
      {"scaled", "experts.n=6 gate.k=2 gate.weight_scale=3"},
      {"alias", "experts.n=6 gate.k=3 experts.alias=0,1,0,1,4,4"},
      {"alias_renorm",
       "experts.n=6 gate.k=3 gate.weight=renorm experts.alias=3,3,3,1,1,5"},
      {"null_raw", "experts.n=3 null.n=3 gate.k=2"},
      {"null_alias",
       "experts.n=4 null.n=2 gate.k=3 gate.weight=renorm "
       "experts.alias=0,0,2,2"},
      {"null_topp", "experts.n=4 null.n=2 gate.select=topp gate.p=0.7"},
      {"topp_k_max", "experts.n=8 gate.select=topp gate.p=0.9 gate.k_max=3"},
      {"topp_renorm",
       "experts.n=8 gate.select=topp gate.p=0.6 gate.weight=renorm"},
      {"topp_all", "experts.n=8 gate.select=topp gate.p=1"},
      {"topp_one", "experts.n=8 gate.select=topp gate.p=0"},
      {"topp_sigmoid",
       "experts.n=8 gate.select=topp gate.p=0.9 gate.score=sigmoid"},
      {"all_renorm", "experts.n=5 gate.select=all gate.weight=renorm"},
      {"all_null", "experts.n=5 null.n=2 gate.select=all"},
      {"sparsemixer_wide",
       "experts.n=7 gate.k=3 gate.score=sparsemixer gate.jitter=0.4"},
      {"sigmoid", "experts.n=8 gate.k=3 gate.score=sigmoid"},
      {"groups_max", "experts.n=12 gate.k=3 gate.groups=4 gate.keep_groups=2"},
      {"drop_index",
       "experts.n=4 gate.k=2 capacity.mode=drop capacity.cf=0.6 "
       "capacity.scope=request"},
      {"drop_priority",
       "experts.n=4 gate.k=2 capacity.mode=drop capacity.cf=0.6 "
       "capacity.order=priority capacity.scope=sequence"},
      {"drop_random",
       "experts.n=4 gate.k=2 capacity.mode=drop capacity.cf=0.6 "
       "capacity.order=random capacity.scope=request"},
      {"drop_batch",
       "experts.n=4 gate.k=2 capacity.mode=drop capacity.cf=0.6 "
       "capacity.scope=batch security.allow_cross_request=true"},
      {"drop_alias",
       "experts.n=4 gate.k=2 capacity.mode=drop capacity.cf=0.6 "
       "experts.alias=0,0,2,2"},
      {"drop_topp",
       "experts.n=8 gate.select=topp gate.p=0.9 gate.k_max=3 "
       "capacity.mode=drop capacity.cf=0.5 capacity.order=priority"},
      {"moec_drop",
       "experts.n=4 gate.k=1 gate.weight=sigmoid_residual capacity.mode=drop "
       "capacity.cf=0.6"},
      {"expert_choice_request",
       "experts.n=4 gate.select=expert_choice gate.cf=1 gate.min_capacity=2 "
       "capacity.scope=request"},
      {"expert_choice_batch",
       "experts.n=4 gate.select=expert_choice gate.cf=1 capacity.scope=batch "
       "security.allow_cross_request=true"},
      {"expert_choice_alias",
       "experts.n=4 gate.select=expert_choice gate.cf=2 "
       "experts.alias=0,1,1,0"},
      {"patch_request",
       "experts.n=4 gate.select=patch_select gate.k=2 gate.cf=1 "
       "capacity.scope=request gate.weight_scale=4"},
      {"soft_merge_alias",
       "experts.n=4 gate.scorer=seq_mean gate.select=soft_merge "
       "experts.alias=0,1,0,3"},
  };
  for (const auto& [name, keys] : more) cases.push_back({name, "", keys});
  return cases;
}

GateConfig ConfigOf(const GateCase& c) {
  const absl::StatusOr<GateConfig> config =
      c.variant.empty() ? ParseGateConfig(c.keys)
                        : GateOfVariant(c.variant, c.keys);
  EXPECT_TRUE(config.ok()) << c.name << ": " << config.status();
  return config.value_or(GateConfig{});
}

std::vector<GateCase> CasesWhere(bool (*holds)(const GateConfig& config)) {
  std::vector<GateCase> cases = AllCases();
  std::erase_if(cases, [&](const GateCase& c) { return !holds(ConfigOf(c)); });
  return cases;
}

class EveryGate : public testing::TestWithParam<GateCase> {
 protected:
  void SetUp() override {
    config_ = ConfigOf(GetParam());
    // As DeepSeek-V3 has them: large enough to change choices.
    if (config_.score == ScoreKind::kSigmoid) {
      for (int64_t c = 0; c < config_.num_columns(); ++c) {
        correction_.push_back(0.1f * static_cast<float>(c % 3));
      }
    }
    absl::StatusOr<Gate> gate = Gate::Create(config_, correction_);
    ASSERT_TRUE(gate.ok()) << gate.status();
    gate_.emplace(*std::move(gate));
  }

  bool merges() const { return config_.select == SelectKind::kSoftMerge; }

  RoutingPlan Route(TestBatch& batch) {
    RoutingPlan plan;
    const absl::Status status = gate_->Route(batch.input(), &plan);
    EXPECT_TRUE(status.ok()) << status;
    return plan;
  }

  GateConfig config_;
  std::vector<float> correction_;
  std::optional<Gate> gate_;
};

void CheckShape(const RoutingPlan& plan, int64_t num_tokens) {
  ASSERT_EQ(plan.num_tokens(), num_tokens);
  const auto rows = static_cast<size_t>(plan.num_rows());
  ASSERT_EQ(plan.wt.size(), rows);
  ASSERT_EQ(plan.aidx.size(), rows);
  ASSERT_EQ(plan.off.front(), 0);
  ASSERT_EQ(plan.off.back(), plan.num_rows());
  ASSERT_EQ(plan.toff.front(), 0);
  ASSERT_EQ(plan.toff.back(), plan.num_rows());
  ASSERT_EQ(plan.phys.size() + 1, plan.off.size());
  for (size_t v = 0; v + 1 < plan.off.size(); ++v) {
    ASSERT_EQ(plan.stats.load[v], plan.off[v + 1] - plan.off[v]);
    for (int64_t r = plan.off[v] + 1; r < plan.off[v + 1]; ++r) {
      // Ascending, so no (token, expert) comes twice.
      ASSERT_LT(plan.tok[static_cast<size_t>(r - 1)],
                plan.tok[static_cast<size_t>(r)]);
    }
  }
  std::vector<bool> seen(rows);
  for (int64_t t = 0; t < num_tokens; ++t) {
    for (int64_t a = plan.toff[static_cast<size_t>(t)];
         a < plan.toff[static_cast<size_t>(t) + 1]; ++a) {
      const auto row = static_cast<size_t>(plan.aidx[static_cast<size_t>(a)]);
      ASSERT_EQ(plan.tok[row], t);
      ASSERT_FALSE(seen[row]);
      seen[row] = true;
    }
  }
  EXPECT_EQ(std::accumulate(plan.stats.load.begin(), plan.stats.load.end(),
                            int64_t{0}),
            plan.num_rows());
}

// Those that merge experts; whose scope is a request at most (the others let
// neighbours matter, and have to be allowed to); whose tokens share nothing.
class MergingGate : public EveryGate {};
class IsolatingGate : public EveryGate {};
class TokenGate : public EveryGate {};

TEST_P(EveryGate, PlansAsTheNaiveLoopDoes) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 60; ++trial) {
    SCOPED_TRACE(trial);
    TestBatch batch = RandomBatch(config_, trial % 7, random);
    const RoutingPlan plan = Route(batch);
    CheckShape(plan, batch.num_tokens);
    int64_t valid = 0;
    for (const uint8_t v : batch.valid) valid += v;
    int64_t counted = 0;
    int64_t rows = 0;
    for (size_t n = 0; n < plan.stats.experts_per_token.size(); ++n) {
      counted += plan.stats.experts_per_token[n];
      rows += static_cast<int64_t>(n) * plan.stats.experts_per_token[n];
    }
    EXPECT_EQ(counted, valid);
    EXPECT_EQ(rows, plan.num_rows());
    if (merges() || (config_.capacity == CapacityMode::kDrop &&
                     config_.capacity_order == CapacityOrder::kRandom)) {
      continue;
    }
    const auto expected = NaiveGate{config_, correction_}.Route(batch);
    for (int64_t t = 0; t < batch.num_tokens; ++t) {
      const auto rows_of = RowsOf(plan, t);
      const auto& want = expected[static_cast<size_t>(t)];
      ASSERT_EQ(rows_of.size(), want.size()) << "token " << t;
      double kept = 1;
      for (size_t i = 0; i < want.size(); ++i) {
        EXPECT_EQ(rows_of[i].first, want[i].first) << "token " << t;
        EXPECT_NEAR(rows_of[i].second, want[i].second, 1e-5);
        kept -= want[i].second;
      }
      if (config_.weight == WeightKind::kSigmoidResidual) {
        EXPECT_NEAR(plan.residual_wt[static_cast<size_t>(t)], kept, 1e-5);
      }
    }
  }
}

TEST_P(MergingGate, MergesByTheSequencesSoftmax) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 30; ++trial) {
    TestBatch batch = RandomBatch(config_, 4, random);
    const RoutingPlan plan = Route(batch);
    const auto experts = static_cast<size_t>(config_.num_experts);
    ASSERT_EQ(plan.num_virtual(), 4);
    for (size_t s = 0; s < 4; ++s) {
      const GateSequence& sequence = batch.sequences[s];
      EXPECT_EQ(plan.phys[s], static_cast<int32_t>(s));
      int64_t rows = 0;
      for (int64_t t = sequence.begin; t < sequence.end; ++t) {
        rows += batch.valid[static_cast<size_t>(t)];
        for (const auto& [v, weight] : RowsOf(plan, t)) {
          EXPECT_EQ(v, static_cast<int32_t>(s));
          EXPECT_EQ(weight, 1.0f);
        }
      }
      EXPECT_EQ(plan.stats.load[s], rows);
      if (rows == 0) continue;
      GateConfig all = config_;
      all.select = SelectKind::kAll;
      std::vector<double> want(experts);
      for (const auto& choice : NaiveGate{all}.ChooseFor(
               batch.logits.data() + s * experts, batch.tunings[s])) {
        want[static_cast<size_t>(NaiveGate{all}.VirtualOf(choice.column))] +=
            choice.share;
      }
      for (size_t e = 0; e < experts; ++e) {
        EXPECT_NEAR(plan.mix[s * experts + e], want[e], 1e-6);
      }
    }
  }
}

// One sequence (all of one request, when that is the scope) cut out.
TestBatch Only(const TestBatch& batch, const GateConfig& config,
               const std::vector<size_t>& sequences,
               std::vector<int64_t>* tokens) {
  TestBatch alone;
  const auto columns = static_cast<size_t>(config.num_columns());
  const auto take = [&](size_t row) {
    alone.logits.insert(alone.logits.end(),
                        batch.logits.begin() + row * columns,
                        batch.logits.begin() + (row + 1) * columns);
  };
  for (const size_t s : sequences) {
    GateSequence sequence = batch.sequences[s];
    if (config.scores_sequences()) take(s);
    const int64_t begin = alone.num_tokens;
    for (int64_t t = sequence.begin; t < sequence.end; ++t) {
      if (!config.scores_sequences()) take(static_cast<size_t>(t));
      alone.valid.push_back(batch.valid[static_cast<size_t>(t)]);
      tokens->push_back(t);
      ++alone.num_tokens;
    }
    sequence.begin = begin;
    sequence.end = alone.num_tokens;
    alone.sequences.push_back(sequence);
    alone.tunings.push_back(batch.tunings[s]);
  }
  return alone;
}

TEST_P(IsolatingGate, NeighboursNeverMatter) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 60; ++trial) {
    SCOPED_TRACE(trial);
    TestBatch batch = RandomBatch(config_, 7, random);
    const RoutingPlan together = Route(batch);
    for (uint64_t request = 98; request <= 100; ++request) {
      std::vector<size_t> sequences;
      for (size_t s = 0; s < batch.sequences.size(); ++s) {
        if (batch.sequences[s].request == request) sequences.push_back(s);
      }
      std::vector<int64_t> tokens;
      TestBatch alone = Only(batch, config_, sequences, &tokens);
      const RoutingPlan plan = Route(alone);
      for (size_t i = 0; i < tokens.size(); ++i) {
        const auto mine = RowsOf(plan, static_cast<int64_t>(i));
        const auto theirs = RowsOf(together, tokens[i]);
        ASSERT_EQ(mine.size(), theirs.size());
        for (size_t j = 0; j < mine.size(); ++j) {
          EXPECT_EQ(plan.phys[static_cast<size_t>(mine[j].first)],
                    merges()
                        ? plan.phys[static_cast<size_t>(mine[j].first)]
                        : together.phys[static_cast<size_t>(theirs[j].first)]);
          EXPECT_EQ(std::bit_cast<uint32_t>(mine[j].second),
                    std::bit_cast<uint32_t>(theirs[j].second));
        }
        if (config_.weight == WeightKind::kSigmoidResidual) {
          EXPECT_EQ(plan.residual_wt[i],
                    together.residual_wt[static_cast<size_t>(tokens[i])]);
        }
      }
      if (!merges()) continue;
      const auto experts = static_cast<size_t>(config_.num_experts);
      for (size_t s = 0; s < sequences.size(); ++s) {
        for (size_t e = 0; e < experts; ++e) {
          EXPECT_EQ(plan.mix[s * experts + e],
                    together.mix[sequences[s] * experts + e]);
        }
      }
    }
  }
}

TEST_P(EveryGate, PaddingHasNoPart) {
  std::mt19937 random(4);
  TestBatch batch = RandomBatch(config_, 6, random);
  const RoutingPlan before = Route(batch);
  if (config_.scores_sequences()) return;
  const auto columns = static_cast<size_t>(config_.num_columns());
  for (size_t t = 0; t < batch.valid.size(); ++t) {
    if (batch.valid[t] != 0) continue;
    EXPECT_TRUE(RowsOf(before, static_cast<int64_t>(t)).empty());
    for (size_t c = 0; c < columns; ++c) {
      batch.logits[t * columns + c] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  const RoutingPlan after = Route(batch);
  EXPECT_EQ(before.tok, after.tok);
  EXPECT_EQ(before.wt, after.wt);
  EXPECT_EQ(before.off, after.off);
}

TEST_P(TokenGate, OneBadTokenIsRejectedAlone) {
  std::mt19937 random(5);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    TestBatch batch;
    batch.num_tokens = 5;
    batch.valid.assign(5, 1);
    batch.sequences = {{.begin = 0, .end = 5}};
    batch.tunings.resize(1);
    const auto columns = static_cast<size_t>(config_.num_columns());
    batch.logits = RandomLogits(5 * columns, random);
    const RoutingPlan good = Route(batch);
    batch.logits[2 * columns + random() % columns] = bad;
    RoutingPlan plan;
    const absl::Status status = gate_->Route(batch.input(), &plan);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(status.message().find("token 2"), std::string::npos) << status;
    ASSERT_EQ(plan.rejected.size(), 1u);
    EXPECT_EQ(plan.rejected[0].token, 2);
    CheckShape(plan, 5);
    for (int64_t t = 0; t < 5; ++t) {
      EXPECT_EQ(RowsOf(plan, t),
                t == 2 ? decltype(RowsOf(plan, t)){} : RowsOf(good, t));
    }
  }
}

TEST_P(EveryGate, ATuningThatIsWrongRejectsItsOwnTokensOnly) {
  std::mt19937 random(6);
  TestBatch batch = RandomBatch(config_, 4, random);
  for (int64_t c = 0; c < config_.num_columns(); ++c) {
    batch.tunings[1].ban.push_back(static_cast<int32_t>(c));
  }
  int64_t mine = 0;
  for (int64_t t = batch.sequences[1].begin; t < batch.sequences[1].end; ++t) {
    mine += batch.valid[static_cast<size_t>(t)];
  }
  ASSERT_GT(mine, 0);
  RoutingPlan plan;
  EXPECT_EQ(gate_->Route(batch.input(), &plan).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(static_cast<int64_t>(plan.rejected.size()), mine);
  for (const RejectedToken& token : plan.rejected) {
    EXPECT_GE(token.token, batch.sequences[1].begin);
    EXPECT_LT(token.token, batch.sequences[1].end);
    EXPECT_EQ(token.reason, RejectedToken::Reason::kBadTuning);
  }
  CheckShape(plan, batch.num_tokens);
}

TEST_P(EveryGate, NoTokens) {
  RoutingPlan plan;
  ASSERT_TRUE(gate_->Route(GateInput(), &plan).ok());
  CheckShape(plan, 0);
  EXPECT_EQ(plan.num_rows(), 0);
}

TEST_P(EveryGate, TheDecoderIsForTokenScopeOnly) {
  const GateCaps caps = gate_->caps();
  const absl::Status decoding = CheckDecoding(config_);
  EXPECT_EQ(decoding.ok(), caps.scope == Scope::kToken);
  EXPECT_EQ(CheckEncoding(config_).ok(), caps.scope != Scope::kBatch);
  EXPECT_EQ(caps.causal, caps.scope == Scope::kToken);
  if (decoding.ok()) return;
  EXPECT_EQ(decoding.code(), absl::StatusCode::kFailedPrecondition);
  // It says what to do instead.
  EXPECT_NE(decoding.message().find(merges() ? "; bake " : "; use "),
            std::string::npos)
      << decoding;
}

std::string NameOf(const testing::TestParamInfo<GateCase>& instance) {
  return instance.param.name;
}

INSTANTIATE_TEST_SUITE_P(All, EveryGate, testing::ValuesIn(AllCases()), NameOf);
INSTANTIATE_TEST_SUITE_P(All, MergingGate,
                         testing::ValuesIn(CasesWhere([](const auto& config) {
                           return config.select == SelectKind::kSoftMerge;
                         })),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(All, IsolatingGate,
                         testing::ValuesIn(CasesWhere([](const auto& config) {
                           return CapsOf(config).scope != Scope::kBatch;
                         })),
                         NameOf);
INSTANTIATE_TEST_SUITE_P(All, TokenGate,
                         testing::ValuesIn(CasesWhere([](const auto& config) {
                           return CapsOf(config).scope == Scope::kToken;
                         })),
                         NameOf);

}  // namespace
}  // namespace conclave::kernels
