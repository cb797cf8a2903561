#include "kernels/gate/scorer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <random>

#include "kernels/gate/domain_projection.h"
#include "kernels/gate/variants.h"
#include "kernels/test_weights.h"

namespace conclave::kernels {
namespace {

using testing::HasSubstr;

constexpr int64_t kHidden = 64;
constexpr int64_t kExperts = 6;
constexpr int64_t kDim = 32;
constexpr int64_t kLow = 4;
constexpr int64_t kLength = 9;  // of seq_flat

struct ScorerCase {
  ScorerKind kind;
  const char* keys;
  int64_t weight_rows;  // 0: no matrix
};

void PrintTo(const ScorerCase& c, std::ostream* out) { *out << Name(c.kind); }

const ScorerCase kCases[] = {
    {ScorerKind::kLinear, "gate.k=2 null.n=2", kExperts},
    {ScorerKind::kCosine, "gate.k=2 gate.dim=32 gate.temp=0.07", kDim},
    {ScorerKind::kMlp, "gate.k=2 gate.dim=32", kDim},
    {ScorerKind::kActNorm, "gate.k=2 experts.d_low=4", kExperts* kLow},
    {ScorerKind::kDomainProj, "gate.k=1", 0},
    {ScorerKind::kSeqMean,
     "gate.select=soft_merge gate.ln_input=true gate.ln_weight=true", 0},
    {ScorerKind::kSeqFlat, "gate.select=seq_select gate.k=2", 0},
};

std::vector<float> Uniform(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> unit(-1, 1);
  std::vector<float> values(n);
  for (float& v : values) v = unit(random);
  return values;
}

std::vector<float> Values(const TestMatrix& m) {
  std::vector<float> values(
      static_cast<size_t>(m.packed().rows * m.packed().cols));
  std::memcpy(values.data(), m.source_row(0), values.size() * sizeof(float));
  return values;
}

// A scorer of a kind, its parameters, and ten tokens.
class Scorers : public testing::TestWithParam<ScorerCase> {
 protected:
  Scorers()
      : weight_(QuantType::kF32, std::max<int64_t>(GetParam().weight_rows, 1),
                kHidden, 1),
        null_(QuantType::kF32, 2, kHidden, 2),
        out_(QuantType::kF32, kExperts, kDim, 3) {
    const ScorerKind kind = GetParam().kind;
    absl::StatusOr<GateConfig> config =
        ParseGateKeys(std::string(GetParam().keys) + " experts.n=6 " +
                      "gate.scorer=" + std::string(Name(kind)));
    EXPECT_TRUE(config.ok()) << config.status();
    config_ = *config;
    if (GetParam().weight_rows > 0) params_.weight = weight_.packed();
    if (kind == ScorerKind::kLinear) {
      params_.null_weight = null_.packed();
      bias_ = Uniform(kExperts + 2, 4);
    }
    if (kind == ScorerKind::kMlp) {
      params_.out = out_.packed();
      bias_ = Uniform(kDim, 5);
    }
    params_.bias = bias_;
    const int64_t stride = kind == ScorerKind::kCosine    ? kDim
                           : kind == ScorerKind::kSeqFlat ? kLength * kHidden
                                                          : kHidden;
    if (GetParam().weight_rows == 0 || kind == ScorerKind::kCosine) {
      rows_ = Uniform(static_cast<size_t>(kExperts * stride), 6);
    }
    params_.rows = rows_;
    if (kind == ScorerKind::kSeqMean) {
      gain_ = Uniform(kHidden, 7);
      params_.input_gain = gain_;
      params_.weight_gain = gain_;
    }
    x_ = Uniform(10 * kHidden, 8);
  }

  Activations Tokens(int64_t begin, int64_t end, const Ops& ops) const {
    Activations x;
    x.Resize(end - begin, kHidden);
    for (int64_t t = begin; t < end; ++t) {
      std::copy_n(x_.data() + t * kHidden, kHidden, x.row(t - begin));
    }
    ops.quantize(x, 0, end - begin);
    return x;
  }

  GateScorer Make(const Ops& ops) const {
    absl::StatusOr<GateScorer> scorer =
        GateScorer::Create(config_, kHidden, params_, ops);
    EXPECT_TRUE(scorer.ok()) << scorer.status();
    return *std::move(scorer);
  }

  static std::vector<double> Normed(std::vector<double> v,
                                    const std::vector<float>& gain) {
    double mean = 0;
    double var = 0;
    for (const double e : v) mean += e / static_cast<double>(v.size());
    for (const double e : v) {
      var += (e - mean) * (e - mean) / static_cast<double>(v.size());
    }
    for (size_t i = 0; i < v.size(); ++i) {
      v[i] = (v[i] - mean) / std::sqrt(var + 1e-6) * double{gain[i]};
    }
    return v;
  }

  // The formula, in double.
  double Expected(int64_t row, int64_t c) const {
    const auto dot = [](const float* a, const float* b, int64_t n) {
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) sum += double{a[i]} * double{b[i]};
      return sum;
    };
    const std::vector<float> w = Values(weight_);
    const float* x = x_.data() + row * kHidden;
    switch (GetParam().kind) {
      case ScorerKind::kLinear: {
        const std::vector<float> nulls = Values(null_);
        const float* r = c < kExperts ? w.data() + c * kHidden
                                      : nulls.data() + (c - kExperts) * kHidden;
        return dot(x, r, kHidden) + double{bias_[static_cast<size_t>(c)]};
      }
      case ScorerKind::kCosine: {
        const float* r = rows_.data() + c * kDim;
        double zr = 0;
        double zz = 0;
        for (int64_t i = 0; i < kDim; ++i) {
          const double z = dot(x, w.data() + i * kHidden, kHidden);
          zr += z * double{r[i]};
          zz += z * z;
        }
        return zr / std::sqrt(zz * dot(r, r, kDim)) / 0.07;
      }
      case ScorerKind::kMlp: {
        const std::vector<float> out = Values(out_);
        double sum = 0;
        for (int64_t i = 0; i < kDim; ++i) {
          const double h = dot(x, w.data() + i * kHidden, kHidden) +
                           double{bias_[static_cast<size_t>(i)]};
          sum +=
              std::max(h, 0.0) * double{out[static_cast<size_t>(c * kDim + i)]};
        }
        return sum;
      }
      case ScorerKind::kActNorm: {
        double sum = 0;
        for (int64_t i = 0; i < kLow; ++i) {
          const double p = dot(x, w.data() + (c * kLow + i) * kHidden, kHidden);
          sum += p * p;
        }
        return std::sqrt(sum);
      }
      case ScorerKind::kDomainProj:
        return dot(x, rows_.data() + c * kHidden, kHidden);
      case ScorerKind::kSeqMean: {
        // Sequence `row` is [0, 4) without token 1, or [4, 10).
        std::vector<double> mean(kHidden);
        const int64_t begin = row == 0 ? 0 : 4;
        const int64_t end = row == 0 ? 4 : 10;
        for (int64_t t = begin; t < end; ++t) {
          if (t == 1) continue;
          for (size_t i = 0; i < kHidden; ++i) {
            mean[i] += double{x_[static_cast<size_t>(t * kHidden) + i]} /
                       (row == 0 ? 3.0 : 6.0);
          }
        }
        const std::vector<double> v = Normed(mean, gain_);
        std::vector<double> r(rows_.begin() + c * kHidden,
                              rows_.begin() + (c + 1) * kHidden);
        r = Normed(r, gain_);
        double sum = 0;
        for (size_t i = 0; i < kHidden; ++i) sum += v[i] * r[i];
        return sum;
      }
      case ScorerKind::kSeqFlat: {
        double sum = 0;
        int64_t at = 0;
        for (int64_t t = row == 0 ? 0 : 4; t < (row == 0 ? 4 : 10); ++t) {
          if (t == 1) continue;
          sum += dot(x_.data() + t * kHidden,
                     rows_.data() + c * kLength * kHidden + at++ * kHidden,
                     kHidden);
        }
        return sum;
      }
    }
    return 0;
  }

  const std::vector<GateSequence> sequences_ = {{.begin = 0, .end = 4},
                                                {.begin = 4, .end = 10}};
  const std::vector<uint8_t> valid_ = {1, 0, 1, 1, 1, 1, 1, 1, 1, 1};
  TestMatrix weight_, null_, out_;
  GateConfig config_;
  ScorerParams params_;
  std::vector<float> bias_, rows_, gain_, x_;
};

TEST_P(Scorers, AreTheirFormulas) {
  const Ops& ops = ReferenceOps();
  GateScorer scorer = Make(ops);
  GateInput input = {
      .num_tokens = 10, .sequences = sequences_, .valid = valid_};
  const absl::Status status = scorer.Score(Tokens(0, 10, ops), &input);
  ASSERT_TRUE(status.ok()) << status;
  const int64_t columns = config_.num_columns();
  const int64_t rows = config_.scores_sequences() ? 2 : 10;
  ASSERT_EQ(static_cast<int64_t>(input.logits.size()), rows * columns);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const double want = Expected(r, c);
      EXPECT_NEAR(input.logits[static_cast<size_t>(r * columns + c)], want,
                  1e-5 * (1 + std::abs(want)));
    }
  }
  EXPECT_EQ(input.pre.size(), config_.scorer == ScorerKind::kActNorm
                                  ? 10u * kExperts * kLow
                                  : 0u);
  // A gate takes it from here.
  absl::StatusOr<Gate> gate = Gate::Create(config_);
  ASSERT_TRUE(gate.ok()) << gate.status();
  RoutingPlan plan;
  EXPECT_TRUE(gate->Route(input, &plan).ok());
  EXPECT_GT(plan.num_rows(), 0);
}

// Those that score a token, not a sequence.
class TokenScorers : public Scorers {};

TEST_P(TokenScorers, OneTokenAloneOnAnyProcessorHasTheSameBits) {
  ASSERT_FALSE(config_.scores_sequences());
  const Ops& scalar = FastOps(Isa::kScalar);
  GateScorer scorer = Make(scalar);
  GateInput all = {.num_tokens = 10};
  ASSERT_TRUE(scorer.Score(Tokens(0, 10, scalar), &all).ok());
  for (const Isa isa : SupportedIsas()) {
    const Ops& ops = FastOps(isa);
    GateScorer other = Make(ops);
    for (int64_t t = 0; t < 10; ++t) {
      GateInput one = {.num_tokens = 1};
      ASSERT_TRUE(other.Score(Tokens(t, t + 1, ops), &one).ok());
      EXPECT_EQ(std::memcmp(one.logits.data(),
                            all.logits.data() +
                                static_cast<size_t>(t) * one.logits.size(),
                            one.logits.size_bytes()),
                0)
          << IsaName(isa) << ", token " << t;
    }
  }
}

TEST_P(Scorers, WrongShapesAreNamed) {
  ScorerParams wrong = params_;
  if (GetParam().weight_rows > 0) {
    wrong.weight = TestMatrix(QuantType::kF32, 3, kHidden, 1).packed();
  } else {
    wrong.rows = wrong.rows.first(7);
  }
  const absl::Status status =
      GateScorer::Create(config_, kHidden, wrong, ReferenceOps()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(std::string(Name(config_.scorer))));
}

std::string NameOf(const testing::TestParamInfo<ScorerCase>& instance) {
  return std::string(Name(instance.param.kind));
}

std::vector<ScorerCase> TokenCases() {
  std::vector<ScorerCase> cases(std::begin(kCases), std::end(kCases));
  std::erase_if(cases, [](const ScorerCase& c) {
    return c.kind == ScorerKind::kSeqMean || c.kind == ScorerKind::kSeqFlat;
  });
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, Scorers, testing::ValuesIn(kCases), NameOf);
INSTANTIATE_TEST_SUITE_P(All, TokenScorers, testing::ValuesIn(TokenCases()),
                         NameOf);

TEST(SeqFlat, ALongerSequenceIsRefused) {
  const GateConfig config = *ParseGateConfig(
      "experts.n=2 gate.scorer=seq_flat gate.select=seq_select gate.k=1");
  const std::vector<float> rows(2 * 3 * 32, 1.0f);
  ScorerParams params;
  params.rows = rows;
  absl::StatusOr<GateScorer> scorer =
      GateScorer::Create(config, 32, params, ReferenceOps());
  ASSERT_TRUE(scorer.ok()) << scorer.status();
  Activations x;
  x.Resize(4, 32);
  GateInput input = {.num_tokens = 4};
  EXPECT_THAT(std::string(scorer->Score(x, &input).message()),
              HasSubstr("a sequence of 4 tokens; its weights are for 3"));
}

TEST(DomainProjection, AnotherExpertLeavesTheOthersAsTheyWere) {
  const std::vector<float> w1 = Uniform(2 * 5 * 3, 1);  // width 5, domain 3
  const std::vector<float> w2 = Uniform(8 * 5, 2);
  absl::StatusOr<DomainProjection> projection =
      DomainProjection::Create(w1, w2, 3, 8);
  ASSERT_TRUE(projection.ok()) << projection.status();
  for (uint32_t e = 0; e < 4; ++e) {
    ASSERT_TRUE(projection->Append(Uniform(3, 10 + e)).ok());
  }
  const std::vector<float> before(projection->rows().begin(),
                                  projection->rows().end());
  ASSERT_TRUE(projection->Append(Uniform(3, 20)).ok());
  ASSERT_EQ(projection->rows().size(), 5u * 8);
  EXPECT_EQ(std::memcmp(before.data(), projection->rows().data(),
                        before.size() * sizeof(float)),
            0);

  const std::vector<float> d = Uniform(3, 20);
  for (size_t r = 0; r < 8; ++r) {
    double want = 0;
    for (size_t i = 0; i < 5; ++i) {
      double a = 0;
      double b = 0;
      for (size_t j = 0; j < 3; ++j) {
        a += double{w1[i * 3 + j]} * double{d[j]};
        b += double{w1[(5 + i) * 3 + j]} * double{d[j]};
      }
      want += double{w2[r * 5 + i]} * a / (1 + std::exp(-a)) * b;
    }
    EXPECT_NEAR(projection->rows()[4 * 8 + r], want, 1e-6);
  }
  EXPECT_FALSE(projection->Append(std::vector<float>(2)).ok());
  EXPECT_FALSE(DomainProjection::Create(w1, w2, 4, 8).ok());
}

}  // namespace
}  // namespace conclave::kernels
