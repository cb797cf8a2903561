#include "kernels/gate/gate_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/gate/caps.h"
#include "kernels/gate/tuning.h"
#include "kernels/gate/variants.h"

namespace conclave::kernels {
namespace {

using testing::HasSubstr;

TEST(GateConfig, ReadsEveryStage) {
  const absl::StatusOr<GateConfig> config = ParseGateConfig(
      "moe.experts.n=16 gate.score=sigmoid\n  gate.k=4 gate.groups=4 "
      "gate.keep_groups=2 gate.group_score=sum_top2 gate.weight=renorm "
      "gate.weight_scale=2.5");
  ASSERT_TRUE(config.ok()) << config.status();
  GateConfig want;
  want.num_experts = 16;
  want.score = ScoreKind::kSigmoid;
  want.k = 4;
  want.num_groups = 4;
  want.keep_groups = 2;
  want.group_score = GroupScore::kSumTop2;
  want.weight = WeightKind::kRenorm;
  want.weight_scale = 2.5;
  EXPECT_EQ(*config, want);
}

TEST(GateConfig, SaysWhatIsWrongAndWhatWouldBeRight) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "experts.n=0"},
      {"experts.n=4", "gate.k=0: 1..4"},
      {"experts.n=4 gate.k=5", "gate.k=5: 1..4"},
      {"experts.n=4 null.n=2 gate.k=7", "gate.k=7: 1..6"},
      {"experts.n=4 gate.k=x", "gate.k=x: not a whole number"},
      {"experts.n=4 gate.k=1 gate.slect=topk", "gate.select"},
      {"experts.n=4 gate.k=1 gate.select=top", "one of topk, topp"},
      {"experts.n=4 gate.k=1 loose", "not KEY=VALUE"},
      {"experts.n=4 gate.k=1 experts.alias=0,1", "2 entries"},
      {"experts.n=2 gate.k=1 experts.alias=0,2", "0..1"},
      {"experts.n=4 gate.select=topp gate.p=1.5", "gate.p=1.5: 0..1"},
      {"experts.n=4 gate.select=topp gate.p=nan", "not a number"},
      {"experts.n=4 gate.select=topp gate.p=0.5 gate.k_max=5", "gate.k_max"},
      {"experts.n=4 gate.k=1 gate.scorer=seq_mean", "soft_merge"},
      {"experts.n=4 gate.k=1 gate.select=seq_select", "seq_flat"},
      {"experts.n=4 gate.k=1 gate.scorer=cosine", "gate.dim"},
      {"experts.n=4 gate.k=1 gate.scorer=act_norm", "experts.d_low"},
      {"experts.n=6 gate.k=1 gate.groups=4", "divisor"},
      {"experts.n=6 gate.k=3 gate.groups=3", "gate.k=3 of 1 groups of 2"},
      {"experts.n=6 gate.k=1 gate.groups=3 gate.group_score=sum_top2",
       "sigmoid"},
      {"experts.n=4 gate.k=2 gate.weight=sigmoid_residual", "gate.k=1"},
      {"experts.n=4 gate.k=2 gate.score=sparsemixer gate.weight=renorm",
       "gate.weight=raw"},
      {"experts.n=4 gate.select=expert_choice", "gate.cf"},
      {"experts.n=4 gate.select=expert_choice gate.cf=1 gate.weight=renorm",
       "use raw"},
      {"experts.n=4 gate.k=1 capacity.mode=drop", "capacity.cf"},
      {"experts.n=4 gate.k=1 capacity.mode=drop capacity.cf=1 "
       "capacity.scope=token",
       "sequence, request or batch"},
      {"experts.n=4 gate.select=all capacity.mode=drop capacity.cf=1",
       "gate.k_max"},
  };
  for (const auto& [text, hint] : cases) {
    const absl::StatusOr<GateConfig> config = ParseGateConfig(text);
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument)
        << text;
    EXPECT_THAT(std::string(config.status().message()), HasSubstr(hint))
        << text;
  }
}

TEST(GateConfig, ABatchWideCapacityHasToBeAllowed) {
  for (const std::string gate :
       {"experts.n=4 capacity.scope=batch gate.k=1 capacity.mode=drop "
        "capacity.cf=1",
        "experts.n=4 capacity.scope=batch gate.select=expert_choice gate.cf=1",
        "experts.n=4 capacity.scope=batch gate.k=1 gate.select=patch_select "
        "gate.cf=1"}) {
    EXPECT_THAT(std::string(ParseGateConfig(gate).status().message()),
                HasSubstr("security.allow_cross_request=true"));
    const auto allowed =
        ParseGateConfig(gate + " security.allow_cross_request=true");
    ASSERT_TRUE(allowed.ok()) << allowed.status();
    // Allowed to exist; not to serve.
    EXPECT_EQ(CheckDecoding(*allowed).code(),
              absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(CheckEncoding(*allowed).message()),
                HasSubstr("capacity.scope=request"));
  }
}

TEST(GateConfig, DecodersAreToldWhy) {
  const absl::StatusOr<GateConfig> choice =
      GateOfVariant("expert_choice", "experts.n=8");
  ASSERT_TRUE(choice.ok()) << choice.status();
  EXPECT_THAT(std::string(CheckDecoding(*choice).message()),
              testing::AllOf(HasSubstr("later ones included"),
                             HasSubstr("gate.select=topk")));
  EXPECT_TRUE(CheckEncoding(*choice).ok());
}

TEST(GateVariants, AnUnknownOneListsThoseThereAre) {
  EXPECT_THAT(std::string(GateOfVariant("swtich", "").status().message()),
              HasSubstr("deepseek_v3"));
}

TEST(GateTuning, SaysWhatIsWrong) {
  const GateConfig config = *ParseGateConfig("experts.n=4 gate.k=2");
  const auto message = [&](const GateTuning& tuning) {
    const absl::Status status = CheckGateTuning(config, tuning);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return std::string(status.message());
  };
  GateTuning t;
  EXPECT_TRUE(CheckGateTuning(config, t).ok());
  t.ban = {4};
  EXPECT_THAT(message(t), HasSubstr("no expert 4; there are 0..3"));
  t.ban = {1, 1};
  EXPECT_THAT(message(t), HasSubstr("twice"));
  t.ban = {0, 1, 2, 3};
  EXPECT_THAT(message(t), HasSubstr("none is left"));
  t.ban = {1};
  t.force = {1};
  EXPECT_THAT(message(t), HasSubstr("both banned and forced"));
  t = {};
  t.force = {0, 1, 2};
  EXPECT_THAT(message(t), HasSubstr("3 experts are forced"));
  t = {};
  t.k = 5;
  EXPECT_THAT(message(t), HasSubstr("k=5: 1..4"));
  t = {};
  t.top_p = 2;
  EXPECT_THAT(message(t), HasSubstr("top_p"));
  t = {};
  t.bias = {{0, 1e9f}};
  EXPECT_THAT(message(t), HasSubstr("bias of expert 0"));
  const GateConfig all = *ParseGateConfig("experts.n=4 gate.select=all");
  t = {};
  t.k = 1;
  EXPECT_THAT(std::string(CheckGateTuning(all, t).message()),
              HasSubstr("gate.select is all"));
}

}  // namespace
}  // namespace conclave::kernels
