#include "expert_workers/engine/forward/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

namespace conclave::engine {
namespace {

weights::ModelHyperparameters Model() {
  weights::ModelHyperparameters model;
  model.head_dim = 64;
  return model;
}

TEST(RopeTest, EveryScalingEqualsTransformers) {
  std::ifstream file("tests/golden/engine/rope.json");
  ASSERT_TRUE(file.good());
  const nlohmann::json golden = nlohmann::json::parse(file);
  ASSERT_FALSE(golden["cases"].empty());
  for (const nlohmann::json& c : golden["cases"]) {
    weights::ModelHyperparameters model = Model();
    const std::string type = c["rope_type"];
    if (type != "default") model.rope_scaling = type;
    model.rope_theta = c["rope_theta"];
    model.rope_factor = c.value("factor", 1.0f);
    model.rope_low_freq_factor = c.value("low_freq_factor", 1.0f);
    model.rope_high_freq_factor = c.value("high_freq_factor", 4.0f);
    model.rope_original_context =
        c.value("original_max_position_embeddings", 0);
    const absl::StatusOr<kernels::RopeTable> table = MakeRopeTable(model, {});
    ASSERT_TRUE(table.ok()) << table.status();
    const auto want = c["inv_freq"].get<std::vector<double>>();
    ASSERT_EQ(table->inv_freq.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_NEAR(static_cast<double>(table->inv_freq[i]) / want[i], 1, 2e-6)
          << type << " " << i;
    }
    EXPECT_NEAR(table->magnitude, c["magnitude"].get<double>(), 1e-6) << type;
  }
}

TEST(RopeTest, FactorsDivide) {
  const std::vector<float> factors(32, 2.0f);
  const auto plain = MakeRopeTable(Model(), {});
  const auto halved = MakeRopeTable(Model(), factors);
  ASSERT_TRUE(plain.ok() && halved.ok());
  EXPECT_EQ(halved->inv_freq[5], plain->inv_freq[5] / 2);
}

TEST(RopeTest, RefusesWhatItCannotDo) {
  weights::ModelHyperparameters model = Model();
  model.rope_scaling = "longrope";
  EXPECT_EQ(MakeRopeTable(model, {}).status().code(),
            absl::StatusCode::kUnimplemented);
  model.rope_scaling = "llama3";  // without an original context
  model.rope_factor = 8;
  EXPECT_FALSE(MakeRopeTable(model, {}).ok());
  model = Model();
  model.rope_theta = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(MakeRopeTable(model, {}).ok());
  EXPECT_FALSE(MakeRopeTable(Model(), std::vector<float>(31, 1.0f)).ok());
}

}  // namespace
}  // namespace conclave::engine
