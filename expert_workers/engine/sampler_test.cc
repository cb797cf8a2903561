#include "expert_workers/engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/logits_math.h"

namespace conclave::engine {
namespace {

using kernels::ExpWeights;
using kernels::FindMax;
using kernels::MaxLogit;

std::vector<float> RandomLogits(size_t n, uint32_t seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

int32_t SampleOnce(const SamplingParams& params, std::vector<float> logits,
                   int64_t position = 0, std::vector<int32_t> prompt = {}) {
  Sampler sampler(params, 42, 0, prompt);
  const absl::StatusOr<TokenEvent> event = sampler.Sample(logits, position);
  EXPECT_TRUE(event.ok()) << event.status();
  return event->token;
}

// What the rules say, written plainly: sort everything, then cut.
std::map<int32_t, double> Expected(const SamplingParams& params,
                                   const std::vector<float>& logits) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  const auto weight = [&](int32_t id) {
    return std::exp((static_cast<double>(logits[static_cast<size_t>(id)]) -
                     static_cast<double>(logits[static_cast<size_t>(ids[0])])) /
                    static_cast<double>(params.temperature));
  };
  if (params.top_k > 0 && static_cast<size_t>(params.top_k) < ids.size()) {
    ids.resize(static_cast<size_t>(params.top_k));
  }
  double total = 0;
  for (const int32_t id : ids) total += weight(id);
  if (params.top_p < 1) {
    double sum = 0;
    size_t keep = 0;
    while (keep < ids.size() &&
           sum < static_cast<double>(params.top_p) * total) {
      sum += weight(ids[keep++]);
    }
    ids.resize(keep);
  }
  while (weight(ids.back()) < static_cast<double>(params.min_p)) {
    ids.pop_back();
  }
  total = 0;
  for (const int32_t id : ids) total += weight(id);
  std::map<int32_t, double> out;
  for (const int32_t id : ids) out[id] = weight(id) / total;
  return out;
}

TEST(LogitsMathTest, ExpIsExactToTheLastPlaces) {
  std::vector<float> logits;
  for (int i = 0; i < 200000; ++i) {
    logits.push_back(-static_cast<float>(i) * 0.0035f);
  }
  std::vector<double> weights(logits.size());
  ExpWeights(logits, 0, 1.0, weights.data());
  for (size_t i = 0; i < logits.size(); ++i) {
    const double want = std::exp(static_cast<double>(logits[i]));
    if (logits[i] >= -700) {
      ASSERT_NEAR(weights[i] / want, 1, 4.5e-16) << logits[i];
    } else {
      ASSERT_EQ(weights[i], 0) << logits[i];
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  double weight = 1;
  ExpWeights(std::vector<float>{-infinity}, 0, 1.0, &weight);
  EXPECT_EQ(weight, 0);
}

TEST(LogitsMathTest, MaxTakesTheLowerIdAndSeesNan) {
  for (size_t n = 1; n < 40; ++n) {
    for (size_t at = 0; at < n; ++at) {
      std::vector<float> logits(n, -3.0f);
      logits[at] = 2.0f;
      logits[n - 1] = 2.0f;
      const MaxLogit max = FindMax(logits);
      EXPECT_TRUE(max.valid);
      EXPECT_EQ(max.token, static_cast<int32_t>(at));
      logits[at] = std::nanf("");
      EXPECT_FALSE(FindMax(logits).valid);
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(FindMax(std::vector<float>{0, infinity}).valid);
  EXPECT_FALSE(FindMax(std::vector<float>{-infinity, -infinity}).valid);
  EXPECT_TRUE(FindMax(std::vector<float>{-infinity, 0}).valid);
}

TEST(SamplerTest, GreedyTakesTheLowerIdOfEquals) {
  SamplingParams params;
  params.temperature = 0;
  EXPECT_EQ(SampleOnce(params, {1, 5, 5, 2}), 1);
}

TEST(SamplerTest, DrawsFollowTheRules) {
  const std::vector<float> logits = RandomLogits(601, 7, 2.0f);
  std::vector<SamplingParams> cases(9);
  cases[1].temperature = 0.5f;
  cases[2].top_k = 5;
  cases[3].top_p = 0.7f;
  cases[4].min_p = 0.1f;
  cases[5].top_k = 40;
  cases[5].top_p = 0.8f;
  cases[6].top_p = 0.95f;
  cases[6].min_p = 0.05f;
  cases[6].temperature = 1.7f;
  cases[7].top_p = 1e-6f;
  cases[8].top_k = 1;
  constexpr int kDraws = 20000;
  for (size_t c = 0; c < cases.size(); ++c) {
    const std::map<int32_t, double> expected = Expected(cases[c], logits);
    std::map<int32_t, int> drawn;
    for (int i = 0; i < kDraws; ++i) {
      ++drawn[SampleOnce(cases[c], logits, i)];
    }
    for (const auto& [token, count] : drawn) {
      EXPECT_TRUE(expected.contains(token)) << "case " << c;
    }
    for (const auto& [token, p] : expected) {
      const double sigma = std::sqrt(p * (1 - p) / kDraws);
      EXPECT_NEAR(drawn[token] / static_cast<double>(kDraws), p,
                  5 * sigma + 4.0 / kDraws)
          << "case " << c << " token " << token;
    }
  }
}

TEST(SamplerTest, EqualLogitsAtTheCutKeepTheLowerIds) {
  SamplingParams params;
  params.top_k = 2;
  for (int i = 0; i < 200; ++i) {
    const int32_t token = SampleOnce(params, {1, 1, 1, 1}, i);
    EXPECT_LT(token, 2);
  }
}

TEST(SamplerTest, PenaltiesAndBias) {
  SamplingParams params;
  params.temperature = 0;
  params.repetition_penalty = 2;
  // 8 / 2 < 5; a negative logit is multiplied.
  EXPECT_EQ(SampleOnce(params, {8, 5, 1}, 0, {0}), 1);
  EXPECT_EQ(SampleOnce(params, {-1, -1.5f, -9}, 0, {0}), 1);
  params.repetition_penalty = 1;
  params.logit_bias = {{2, 100.0f}, {70000, 1.0f}};
  EXPECT_EQ(SampleOnce(params, {8, 5, 1}), 2);

  // Presence once, frequency by count, over output alone.
  params = {};
  params.temperature = 0;
  params.presence_penalty = 1;
  params.frequency_penalty = 0.5f;
  Sampler sampler(params, 1, 0, std::vector<int32_t>{1, 1, 1});
  std::vector<int32_t> chosen;
  for (int i = 0; i < 7; ++i) {
    std::vector<float> logits = {4.0f, 2.4f};
    chosen.push_back(sampler.Sample(logits, i)->token);
  }
  // 4 - 1 - .5 = 2.5 > 2.4; then 2.0 < 2.4; then 2.4 - 1.5 = .9 < 2.0;
  // then 1.5 > .9; 1.0 > .9; .5 < .9.
  EXPECT_THAT(chosen, testing::ElementsAre(0, 0, 1, 0, 0, 0, 1));
}

TEST(SamplerTest, LogprobsAreTheRawModels) {
  const std::vector<float> logits = RandomLogits(300, 3, 3.0f);
  double total = 0;
  for (const float logit : logits) {
    total += std::exp(static_cast<double>(logit));
  }
  SamplingParams params;
  params.temperature = 0.3f;
  params.logprobs = 4;
  params.logit_bias = {{17, 50.0f}};
  params.top_k = 1;
  Sampler sampler(params, 9, 0, {});
  std::vector<float> scratch = logits;
  const TokenEvent event = *sampler.Sample(scratch, 0);
  EXPECT_EQ(event.token, 17);
  EXPECT_NEAR(event.logprob, static_cast<double>(logits[17]) - std::log(total),
              1e-5);
  ASSERT_EQ(event.top.size(), 4u);
  EXPECT_EQ(event.top[0].token, FindMax(logits).token);
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_GE(event.top[i - 1].logprob, event.top[i].logprob);
  }
  const TokenEvent scored = *ScoreToken(logits, 17, 400);
  EXPECT_EQ(scored.logprob, event.logprob);
  EXPECT_EQ(scored.top.size(), logits.size());
}

TEST(SamplerTest, ChanceDependsOnSeedAnswerAndPositionAlone) {
  const std::vector<float> logits = RandomLogits(500, 1, 1.0f);
  SamplingParams params;
  std::map<int32_t, int> differ;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    for (int32_t answer = 0; answer < 4; ++answer) {
      for (int64_t position = 0; position < 8; ++position) {
        std::vector<float> a = logits;
        std::vector<float> b = logits;
        Sampler first(params, seed, answer, {});
        Sampler second(params, seed, answer, {});
        std::vector<float> other = RandomLogits(500, 77, 1.0f);
        (void)second.Sample(other, 1000);  // a past that must not matter
        const int32_t token = first.Sample(a, position)->token;
        EXPECT_EQ(token, second.Sample(b, position)->token);
        ++differ[token];
      }
    }
  }
  EXPECT_GT(differ.size(), 60u);  // of 128 draws from 500 tokens
}

TEST(SamplerTest, NonsenseIsAnErrorNotAToken) {
  for (const float bad :
       {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    std::vector<float> logits = {1, bad, 2};
    Sampler sampler({}, 1, 0, {});
    EXPECT_EQ(sampler.Sample(logits, 0).status().code(),
              absl::StatusCode::kInternal);
    EXPECT_FALSE(ScoreToken(logits, 0, 2).ok());
  }
}

TEST(SamplingParamsTest, RangesAreNamed) {
  const auto message = [](auto&& change) {
    SamplingParams params;
    change(params);
    const absl::Status status = CheckSamplingParams(params);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(Message(status));
  };
  using testing::HasSubstr;
  EXPECT_TRUE(CheckSamplingParams({}).ok());
  EXPECT_THAT(message([](auto& p) { p.temperature = 2.5f; }),
              HasSubstr("temperature is 2.5"));
  EXPECT_THAT(message([](auto& p) { p.temperature = std::nanf(""); }),
              HasSubstr("temperature"));
  EXPECT_THAT(message([](auto& p) { p.top_p = 0; }), HasSubstr("top_p is 0"));
  EXPECT_THAT(message([](auto& p) { p.min_p = -0.1f; }), HasSubstr("min_p"));
  EXPECT_THAT(message([](auto& p) { p.top_k = -1; }), HasSubstr("top_k"));
  EXPECT_THAT(message([](auto& p) { p.repetition_penalty = 0; }),
              HasSubstr("repetition_penalty"));
  EXPECT_THAT(message([](auto& p) { p.presence_penalty = 3; }),
              HasSubstr("presence_penalty"));
  EXPECT_THAT(message([](auto& p) { p.frequency_penalty = -3; }),
              HasSubstr("frequency_penalty"));
  EXPECT_THAT(message([](auto& p) { p.logit_bias[-5] = 1; }),
              HasSubstr("token -5"));
  EXPECT_THAT(message([](auto& p) { p.logit_bias[5] = 101; }),
              HasSubstr("logit_bias is 101"));
  EXPECT_THAT(message([](auto& p) { p.stop = {""}; }), HasSubstr("0 bytes"));
  EXPECT_THAT(message([](auto& p) { p.stop.assign(17, "a"); }),
              HasSubstr("17 strings"));
  EXPECT_THAT(message([](auto& p) { p.max_tokens = -2; }),
              HasSubstr("max_tokens is -2"));
  EXPECT_THAT(message([](auto& p) { p.logprobs = 21; }),
              HasSubstr("logprobs is 21"));
  EXPECT_THAT(message([](auto& p) { p.n = 0; }), HasSubstr("n is 0"));
}

}  // namespace
}  // namespace conclave::engine
