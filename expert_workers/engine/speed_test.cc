#include "expert_workers/engine/speed.h"

#include <gtest/gtest.h>

#include "expert_workers/engine/limits.h"
#include "expert_workers/engine/tiny_model.h"

namespace conclave::engine {
namespace {

TEST(SpeedTest, MeasuresWhatWasAsked) {
  const auto compute = Compute::Create(2);
  const auto meter =
      SpeedMeter::Create(MakeTinyModel(), MakeTinyTokenizer(), compute.get(),
                         {.prompt = 40, .generate = 10, .stream_prompt = 8});
  ASSERT_TRUE(meter.ok()) << meter.status();
  for (int round = 0; round < 2; ++round) {
    const auto one = (*meter)->MeasureOne();
    ASSERT_TRUE(one.ok()) << one.status();
    EXPECT_GT(one->prompt_tokens_per_second, 0);
    EXPECT_GT(one->generated_tokens_per_second, 0);
    const auto streams = (*meter)->MeasureStreams();
    ASSERT_TRUE(streams.ok()) << streams.status();
    EXPECT_GT(*streams, 0);
  }
}

TEST(SpeedTest, SaysWhatCannotBeMeasured) {
  const auto compute = Compute::Create(1);
  const auto nothing = SpeedMeter::Create(MakeTinyModel(), MakeTinyTokenizer(),
                                          compute.get(), {.generate = 0});
  EXPECT_EQ(nothing.status().code(), absl::StatusCode::kInvalidArgument);
  // The tiny model's context has 512 tokens.
  const auto meter = SpeedMeter::Create(MakeTinyModel(), MakeTinyTokenizer(),
                                        compute.get(), {.prompt = 1000});
  ASSERT_TRUE(meter.ok()) << meter.status();
  EXPECT_EQ((*meter)->MeasureOne().status().code(),
            absl::StatusCode::kInvalidArgument);
}

weights::TensorInfo Matrix(const char* name, int64_t rows, int64_t cols) {
  return {.name = name,
          .type = kernels::QuantType::kF16,
          .rows = rows,
          .cols = cols,
          .runs = {{.num_panels = rows / 16}}};
}

// Of a mixture's experts a token reads those that it chooses, and of embedding
// and head one.
TEST(LimitsTest, WhatATokenReads) {
  weights::ModelManifest manifest;
  manifest.spec.hyperparameters.moe = {.num_experts = 8,
                                       .experts_per_token = 2};
  manifest.units.resize(2);
  manifest.units[0].tensors = {Matrix("token_embd.weight", 64, 32),
                               Matrix("blk.0.attn_q.weight", 32, 32)};
  for (int expert = 0; expert < 8; ++expert) {
    manifest.units[1].tensors.push_back(
        Matrix("blk.0.expert.3.ffn_up_exps.weight", 48, 32));
  }
  const int64_t weights = 64 * 32 + 32 * 32 + 2 * 48 * 32;
  EXPECT_EQ(TokenWeights(manifest), weights);
  EXPECT_EQ(TokenBytes(manifest), 2 * weights);
  manifest.units[0].tensors.push_back(Matrix("output.weight", 64, 32));
  EXPECT_EQ(TokenWeights(manifest), weights);
}

}  // namespace
}  // namespace conclave::engine
