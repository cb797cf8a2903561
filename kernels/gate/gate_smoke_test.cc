#include <gtest/gtest.h>

#include "kernels/gate/gate.h"

namespace conclave::kernels {
namespace {

TEST(Gate, TopTwoOfFour) {
  const absl::StatusOr<GateConfig> config =
      ParseGateConfig("experts.n=4 gate.k=2 gate.weight=renorm");
  ASSERT_TRUE(config.ok()) << config.status();
  absl::StatusOr<Gate> gate = Gate::Create(*config);
  ASSERT_TRUE(gate.ok()) << gate.status();
  const std::vector<float> logits = {0, 1, 1, -1, 5, 5, 5, 5, 3, 2, 1, 0};
  RoutingPlan plan;
  ASSERT_TRUE(gate->Route({.num_tokens = 3, .logits = logits}, &plan).ok());
  EXPECT_EQ(plan.off, (std::vector<int64_t>{0, 2, 5, 6, 6}));
  EXPECT_EQ(plan.tok, (std::vector<int32_t>{1, 2, 0, 1, 2, 0}));
  EXPECT_EQ(plan.aidx, (std::vector<int32_t>{2, 5, 0, 3, 1, 4}));
  EXPECT_FLOAT_EQ(plan.wt[0], 0.5f);
}

}  // namespace
}  // namespace conclave::kernels
