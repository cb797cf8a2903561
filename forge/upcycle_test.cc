// Upcycled models answer as their parents do, and cost no space.
#include "forge/upcycle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <vector>

#include "expert_workers/engine/forward/language_model.h"
#include "expert_workers/weights/ram_tier.h"
#include "expert_workers/weights/test_files.h"

namespace conclave::forge {
namespace {

using ::testing::HasSubstr;
using weights::testing::TempDir;
using weights::testing::TinyModel;

std::vector<float> Logits(const weights::ModelLease& lease) {
  const std::vector<int32_t> ids = {1, 5, 9, 2, 7, 7, 3};
  auto model = engine::LanguageModel::Create(lease, kernels::FastOps());
  EXPECT_TRUE(model.ok()) << model.status();
  if (!model.ok()) return {};
  const engine::KvShape shape = (*model)->kv_shape(kernels::KvType::kF16);
  engine::KvCache cache(shape, 4 * shape.PageBytes());
  engine::PageTable pages;
  const auto compute = engine::Compute::Create(2);
  const engine::Compute::Turn turn(compute.get());
  const auto count = static_cast<int64_t>(ids.size());
  EXPECT_TRUE(cache.PrepareWrite(pages, 0, count));
  engine::Batch batch;
  batch.tokens = ids;
  batch.sequences.push_back({0, count, 0, &pages});
  for (int64_t i = 0; i < count; ++i) batch.logit_rows.push_back(i);
  EXPECT_TRUE((*model)->Forward(batch, cache, {compute.get(), nullptr}));
  std::vector<float> logits(ids.size() *
                            static_cast<size_t>((*model)->vocab_size()));
  (*model)->Logits(0, count, compute.get(), logits.data());
  cache.Release(pages);
  return logits;
}

class UpcycleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = weights::WeightStore::Open({.path = directory_ / "store"});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    tier_ = weights::RamTier::Create(store_.get(), int64_t{64} << 20);
    weights::testing::WriteFile(directory_ / "tiny.gguf", TinyModel().Build());
    ASSERT_TRUE(store_->Import(directory_ / "tiny.gguf", "dense", {}).ok());
  }

  std::shared_ptr<const weights::ModelManifest> Manifest(
      const std::string& name) {
    auto manifest = store_->Manifest(name);
    EXPECT_TRUE(manifest.ok()) << manifest.status();
    return *manifest;
  }

  std::vector<float> LogitsOf(const std::string& name) {
    auto lease = tier_->Acquire(Manifest(name), absl::InfiniteFuture());
    EXPECT_TRUE(lease.ok()) << lease.status();
    return lease.ok() ? Logits(**lease) : std::vector<float>();
  }

  int64_t StoreBytes() const {
    int64_t bytes = 0;
    for (const auto& file :
         std::filesystem::recursive_directory_iterator(directory_ / "store")) {
      if (file.path().extension() == ".sst") {
        bytes += static_cast<int64_t>(file.file_size());
      }
    }
    return bytes;
  }

  TempDir directory_;
  std::unique_ptr<weights::WeightStore> store_;
  std::unique_ptr<weights::RamTier> tier_;
};

TEST_F(UpcycleTest, AnswersAsItsParentDoes) {
  const std::vector<float> dense = LogitsOf("dense");
  for (const int64_t top_k : {1, 2}) {
    const auto child = Upcycle(*Manifest("dense"), "dense",
                               {.num_experts = 8, .experts_per_token = top_k});
    ASSERT_TRUE(child.ok()) << child.status();
    const std::string name = fmt::format("zero{}", top_k);
    ASSERT_TRUE(store_->Derive(*child, name, {}).ok());
    EXPECT_EQ(LogitsOf(name), dense) << top_k;  // bit for bit
  }
  for (const int64_t top_k : {1, 2, 8}) {
    const auto child = Upcycle(
        *Manifest("dense"), "dense",
        {.num_experts = 8, .experts_per_token = top_k, .gate_deviation = 0.5f});
    ASSERT_TRUE(child.ok()) << child.status();
    const std::string name = fmt::format("moe{}", top_k);
    const auto entry = store_->Derive(*child, name, {});
    ASSERT_TRUE(entry.ok()) << entry.status();
    EXPECT_EQ(entry->architecture, "mixtral");
    const std::vector<float> mixture = LogitsOf(name);
    ASSERT_EQ(mixture.size(), dense.size());
    float largest = 0, apart = 0;
    for (size_t i = 0; i < dense.size(); ++i) {
      largest = std::max(largest, std::abs(dense[i]));
      apart = std::max(apart, std::abs(dense[i] - mixture[i]));
    }
    EXPECT_GT(largest, 0);
    EXPECT_LE(apart, 1e-5f * largest) << top_k;
  }
}

TEST_F(UpcycleTest, ExpertsAreStoredOnce) {
  const int64_t before = StoreBytes();
  const auto parent = Manifest("dense");
  const auto child = Upcycle(*parent, "dense", {.num_experts = 8});
  ASSERT_TRUE(child.ok()) << child.status();
  const auto entry = store_->Derive(*child, "moe", {});
  ASSERT_TRUE(entry.ok()) << entry.status();
  const auto stored = Manifest("moe");
  // Only the gates are new; a tiny model's are not tiny beside it.
  const int64_t layers = parent->spec.hyperparameters.num_layers;
  const int64_t gate = kernels::PanelBytes(
      kernels::QuantType::kF32, parent->spec.hyperparameters.hidden_size);
  EXPECT_LE(StoreBytes() - before, layers * (gate + 4096));
  EXPECT_THAT(stored->lineage, HasSubstr(parent->version));
  EXPECT_THAT(stored->lineage, HasSubstr("upcycle"));
  EXPECT_EQ(entry->source, "upcycle of dense");
  // Again: nothing changes. With another seed: another model.
  EXPECT_EQ(store_->Derive(*child, "moe", {})->version, entry->version);
  const auto other =
      Upcycle(*parent, "dense", {.num_experts = 8, .gate_deviation = 0.02f});
  EXPECT_EQ(store_->Derive(*other, "moe", {}).status().code(),
            absl::StatusCode::kAlreadyExists);
  // The parent may go.
  ASSERT_TRUE(store_->Remove("dense").ok());
  EXPECT_FALSE(LogitsOf("moe").empty());
}

TEST_F(UpcycleTest, RefusesWhatItCannotDo) {
  const auto parent = Manifest("dense");
  EXPECT_EQ(Upcycle(*parent, "dense", {.num_experts = 1}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(
      Upcycle(*parent, "dense", {.num_experts = 4, .experts_per_token = 5})
          .status()
          .code(),
      absl::StatusCode::kInvalidArgument);
  const auto child = Upcycle(*parent, "dense", {});
  ASSERT_TRUE(child.ok());
  ASSERT_TRUE(store_->Derive(*child, "moe", {}).ok());
  const auto again = Upcycle(*Manifest("moe"), "moe", {}).status();
  EXPECT_EQ(again.code(), absl::StatusCode::kFailedPrecondition);
  // A unit that was removed meanwhile.
  const auto orphan = Upcycle(*parent, "dense", {.num_experts = 2});
  ASSERT_TRUE(store_->Remove("moe").ok());
  ASSERT_TRUE(store_->Remove("dense").ok());
  EXPECT_EQ(store_->Derive(*orphan, "late", {}).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace conclave::forge
