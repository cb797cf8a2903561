#include "expert_workers/weights/ram_tier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <random>
#include <thread>

#include "expert_workers/weights/test_files.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::weights {
namespace {

using ::testing::HasSubstr;

// A store of models made up in memory: every unit is one vector of 16 floats
// and 4 KiB in all; its values are its number. Counts reads, can be told to
// fail or to wait.
class FakeStore final : public WeightStore {
 public:
  // Units are numbers; models that name the same number share it.
  static std::shared_ptr<const ModelManifest> Model(
      const std::string& version, const std::vector<uint64_t>& units) {
    auto manifest = std::make_shared<ModelManifest>();
    manifest->version = version;
    for (const uint64_t number : units) {
      UnitInfo unit;
      unit.name = "unit." + std::to_string(number);
      unit.digest = {number, 0};
      unit.bytes = kUnitBytes;
      unit.record_bytes = {kUnitBytes / 2, kUnitBytes / 2};
      TensorInfo tensor;
      tensor.name = "vector." + std::to_string(manifest->units.size());
      tensor.rows = 1;
      tensor.cols = 16;
      tensor.is_vector = true;
      tensor.runs = {{1, 64, 0, 0}};
      unit.tensors.push_back(tensor);
      manifest->units.push_back(unit);
    }
    return manifest;
  }

  // One unit that is always there, and a layer's experts.
  static std::shared_ptr<const ModelManifest> Mixture(
      const std::string& version, uint64_t trunk,
      const std::vector<uint64_t>& experts) {
    std::vector<uint64_t> units = {trunk};
    units.insert(units.end(), experts.begin(), experts.end());
    auto manifest = std::make_shared<ModelManifest>(*Model(version, units));
    for (size_t i = 0; i < experts.size(); ++i) {
      manifest->units[i + 1].name = "layer.0.expert." + std::to_string(i);
    }
    manifest->spec.hyperparameters.num_layers = 1;
    manifest->spec.hyperparameters.moe.num_experts =
        static_cast<int64_t>(experts.size());
    return manifest;
  }

  absl::Status ReadRecord(const UnitInfo& unit, size_t,
                          std::span<std::byte> out) override {
    {
      std::unique_lock lock(mutex);
      ++reads;
      open_gate.wait(lock, [this] { return gate_open; });
      if (unit.digest.high == corrupt) {
        return DataLoss("unit {} is corrupt", unit.name);
      }
      if (unit.digest.high == unreachable) return Unavailable("no disk");
    }
    const auto value = static_cast<float>(unit.digest.high);
    for (size_t i = 0; i < out.size(); i += sizeof value) {
      std::memcpy(out.data() + i, &value, sizeof value);
    }
    return absl::OkStatus();
  }
  absl::StatusOr<ModelEntry> Import(const std::string&, const std::string&,
                                    const ImportProgress&) override {
    return Unimplemented("a fake");
  }
  absl::StatusOr<ModelEntry> Derive(const DerivedModel&, const std::string&,
                                    const ImportProgress&) override {
    return Unimplemented("a fake");
  }
  std::vector<ModelEntry> List() const override { return {}; }
  absl::StatusOr<std::shared_ptr<const ModelManifest>> Manifest(
      std::string_view) const override {
    return Unimplemented("a fake");
  }
  absl::Status Remove(std::string_view) override {
    return Unimplemented("a fake");
  }

  void SetGate(bool is_open) {
    const std::lock_guard lock(mutex);
    gate_open = is_open;
    open_gate.notify_all();
  }

  static constexpr int64_t kUnitBytes = 4096;
  std::mutex mutex;
  std::condition_variable open_gate;
  bool gate_open = true;
  int reads = 0;
  uint64_t corrupt = 0;
  uint64_t unreachable = 0;
};

absl::Time Soon() { return absl::Now() + absl::Milliseconds(50); }
absl::Time Later() { return absl::Now() + absl::Seconds(20); }

class RamTierTest : public ::testing::Test {
 protected:
  std::unique_ptr<RamTier> Tier(int units) {
    return RamTier::Create(&store_, units * FakeStore::kUnitBytes);
  }
  FakeStore store_;
};

TEST_F(RamTierTest, LeasesShowTheBytes) {
  const auto tier = Tier(3);
  const auto lease =
      tier->Acquire(FakeStore::Model("a", {7, 8}), absl::InfiniteFuture());
  ASSERT_TRUE(lease.ok()) << lease.status();
  const auto vector = (*lease)->Vector("vector.1");
  ASSERT_TRUE(vector.ok());
  EXPECT_EQ(vector->size(), 16u);
  EXPECT_EQ((*vector)[3], 8.0f);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(vector->data()) % 64, 0u);
  EXPECT_TRUE((*lease)->Has("vector.0"));
  EXPECT_FALSE((*lease)->Has("vector.2"));
  EXPECT_EQ((*lease)->Vector("vector.2").status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_FALSE((*lease)->Matrix("vector.1").ok());
  const RamTierStats stats = tier->Stats();
  EXPECT_EQ(stats.resident_bytes, 2 * FakeStore::kUnitBytes);
  EXPECT_EQ(stats.leased_bytes, 2 * FakeStore::kUnitBytes);
  EXPECT_EQ(stats.loads, 2);
  ASSERT_EQ(stats.models.size(), 1u);
  EXPECT_EQ(stats.models[0].num_leases, 1);
}

TEST_F(RamTierTest, ASecondLeaseReadsNothing) {
  const auto tier = Tier(4);
  { const auto lease = tier->Acquire(FakeStore::Model("a", {1, 2}), Soon()); }
  EXPECT_EQ(store_.reads, 4);
  EXPECT_EQ(tier->Stats().leased_bytes, 0);
  // Shared units, too.
  const auto lease = tier->Acquire(FakeStore::Model("b", {2, 3}), Soon());
  ASSERT_TRUE(lease.ok());
  EXPECT_EQ(store_.reads, 6);
}

TEST_F(RamTierTest, TheLongestUnusedGoesFirst) {
  const auto tier = Tier(3);
  { const auto a = tier->Acquire(FakeStore::Model("a", {1}), Soon()); }
  { const auto b = tier->Acquire(FakeStore::Model("b", {2}), Soon()); }
  { const auto c = tier->Acquire(FakeStore::Model("c", {3}), Soon()); }
  { const auto a = tier->Acquire(FakeStore::Model("a", {1}), Soon()); }
  { const auto d = tier->Acquire(FakeStore::Model("d", {4}), Soon()); }
  EXPECT_EQ(tier->Stats().evictions, 1);
  std::vector<std::string> resident;
  for (const ResidentModel& model : tier->Stats().models) {
    resident.push_back(model.version);
  }
  EXPECT_THAT(resident, ::testing::ElementsAre("a", "c", "d"));
}

TEST_F(RamTierTest, AModelOverTheBudgetIsRefusedWithBothNumbers) {
  const auto tier = Tier(2);
  const auto status =
      tier->Acquire(FakeStore::Model("a", {1, 2, 3}), Soon()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              ::testing::AllOf(HasSubstr("12288"), HasSubstr("8192")));
  EXPECT_EQ(store_.reads, 0);
  // A unit that stands in it three times needs its room once.
  EXPECT_TRUE(tier->Acquire(FakeStore::Model("b", {1, 1, 1}), Soon()).ok());
}

TEST_F(RamTierTest, WaitsForOtherLeasesUntilTheDeadline) {
  const auto tier = Tier(2);
  auto held = tier->Acquire(FakeStore::Model("a", {1, 2}), Soon());
  ASSERT_TRUE(held.ok());
  EXPECT_EQ(tier->Acquire(FakeStore::Model("b", {3}), Soon()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(tier->Stats().resident_bytes, 2 * FakeStore::kUnitBytes);
  std::thread release([&held] {
    absl::SleepFor(absl::Milliseconds(30));
    held->reset();
  });
  EXPECT_TRUE(tier->Acquire(FakeStore::Model("b", {3}), Later()).ok());
  release.join();
}

TEST_F(RamTierTest, OneReadServesAllWhoWait) {
  const auto tier = Tier(2);
  store_.SetGate(false);
  std::vector<std::thread> threads;
  std::atomic<int> served = 0;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      const auto lease = tier->Acquire(FakeStore::Model("a", {1, 2}), Later());
      if (lease.ok() && (*(*lease)->Vector("vector.1"))[0] == 2) ++served;
    });
  }
  absl::SleepFor(absl::Milliseconds(30));
  store_.SetGate(true);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(served, 6);
  EXPECT_EQ(store_.reads, 4);
}

TEST_F(RamTierTest, ACorruptUnitIsQuarantinedAndOthersServe) {
  const auto tier = Tier(4);
  store_.corrupt = 2;
  for (int i = 0; i < 2; ++i) {
    const auto status =
        tier->Acquire(FakeStore::Model("a", {1, 2}), Soon()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr("unit.2"));
  }
  EXPECT_LE(store_.reads, 4);  // The second time, nothing was read.
  EXPECT_TRUE(tier->Acquire(FakeStore::Model("b", {1, 3}), Soon()).ok());
  EXPECT_EQ(tier->Stats().leased_bytes, 0);
  // Mended, and told so.
  store_.corrupt = 0;
  EXPECT_FALSE(tier->Acquire(FakeStore::Model("a", {1, 2}), Soon()).ok());
  tier->Evict("a");
  EXPECT_TRUE(tier->Acquire(FakeStore::Model("a", {1, 2}), Soon()).ok());
}

TEST_F(RamTierTest, ADeviceErrorGivesTheRoomBack) {
  const auto tier = Tier(2);
  store_.unreachable = 2;
  EXPECT_EQ(
      tier->Acquire(FakeStore::Model("a", {1, 2}), Soon()).status().code(),
      absl::StatusCode::kUnavailable);
  store_.unreachable = 0;
  EXPECT_TRUE(tier->Acquire(FakeStore::Model("a", {1, 2}), Soon()).ok());
}

TEST_F(RamTierTest, EvictDropsOnlyWhatNobodyLeases) {
  const auto tier = Tier(4);
  { const auto a = tier->Acquire(FakeStore::Model("a", {1, 2}), Soon()); }
  const auto b = tier->Acquire(FakeStore::Model("b", {2}), Soon());
  tier->Evict("a");
  EXPECT_EQ(tier->Stats().resident_bytes, FakeStore::kUnitBytes);
  EXPECT_EQ((*(*b)->Vector("vector.0"))[0], 2.0f);
}

// Many threads, many models, little room: every lease shows its own bytes,
// and in the end nothing is lost.
TEST_F(RamTierTest, ManyThreadsUnderASmallBudget) {
  const auto tier = Tier(4);
  std::vector<std::thread> threads;
  std::atomic<int> served = 0;
  for (uint32_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      std::mt19937 random(thread);
      for (int i = 0; i < 200; ++i) {
        const uint64_t model = random() % 6;
        const std::vector<uint64_t> units = {model * 2 + 1, model * 2 + 2,
                                             1000};
        const auto lease = tier->Acquire(
            FakeStore::Model("m" + std::to_string(model), units), Later());
        ASSERT_TRUE(lease.ok()) << lease.status();
        for (size_t u = 0; u < units.size(); ++u) {
          const auto vector = (*lease)->Vector("vector." + std::to_string(u));
          ASSERT_EQ((*vector)[5], static_cast<float>(units[u]));
        }
        if (random() % 8 == 0) tier->Evict("m" + std::to_string(model));
        ++served;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(served, 800);
  EXPECT_EQ(tier->Stats().leased_bytes, 0);
  EXPECT_LE(tier->Stats().resident_bytes, tier->Stats().budget_bytes);
}

// Three real imports under a budget that holds one.
TEST(RamTierOnDisk, SwitchesThreeModelsUnderAOneModelBudget) {
  const testing::TempDir directory;
  auto store = WeightStore::Open({.path = directory / "store"});
  ASSERT_TRUE(store.ok());
  std::vector<std::shared_ptr<const ModelManifest>> models;
  int64_t largest = 0;
  for (uint32_t i = 0; i < 3; ++i) {
    testing::TinyModel tiny;
    tiny.seed = i + 1;
    tiny.hidden = 256;
    tiny.vocab = 3000;
    // Several records per unit, several runs per matrix.
    tiny.ffn = 20000;
    tiny.matrix_type = kernels::QuantType::kF32;
    testing::WriteFile(directory / "m.gguf", tiny.Build());
    const std::string name = "m" + std::to_string(i);
    const auto entry = (*store)->Import(directory / "m.gguf", name, nullptr);
    ASSERT_TRUE(entry.ok()) << entry.status();
    models.push_back(*(*store)->Manifest(name));
    largest = std::max(largest, entry->total_bytes);
  }
  ASSERT_GT(models[0]->units[2].record_bytes.size(), 2u);
  const auto tier = RamTier::Create(store->get(), largest + (1 << 16));
  std::vector<std::vector<float>> rows(3);
  for (int round = 0; round < 4; ++round) {
    for (size_t i = 0; i < 3; ++i) {
      const auto lease = tier->Acquire(models[i], Later());
      ASSERT_TRUE(lease.ok()) << lease.status();
      std::vector<float> all;
      for (const char* name :
           {"blk.0.ffn_up.weight", "blk.1.ffn_down.weight"}) {
        const auto matrix = (*lease)->Matrix(name);
        ASSERT_TRUE(matrix.ok());
        int64_t panels = 0;
        for (const kernels::PanelRun& run : matrix->runs) {
          EXPECT_EQ(reinterpret_cast<uintptr_t>(run.data) % 64, 0u);
          EXPECT_EQ(run.first_panel, panels);
          panels += run.num_panels;
        }
        EXPECT_EQ(panels, matrix->num_panels());
        std::vector<float> row(static_cast<size_t>(matrix->cols));
        for (const int64_t at :
             {int64_t{0}, matrix->rows / 2, matrix->rows - 1}) {
          kernels::UnpackRow(*matrix, at, row.data());
          all.insert(all.end(), row.begin(), row.end());
        }
      }
      if (round == 0) {
        rows[i] = all;
      } else {
        EXPECT_EQ(rows[i], all);
      }
      EXPECT_LE(tier->Stats().resident_bytes, tier->Stats().budget_bytes);
    }
  }
  EXPECT_NE(rows[0], rows[1]);
  EXPECT_NE(rows[1], rows[2]);
}

// The budget holds the trunk and two of the mixture's experts.
class ExpertsOnDemandTest : public ::testing::Test {
 protected:
  std::unique_ptr<ModelLease> Acquire(
      const std::shared_ptr<const ModelManifest>& manifest) {
    auto lease = tier_->Acquire(manifest, absl::InfiniteFuture());
    EXPECT_TRUE(lease.ok()) << lease.status();
    return lease.ok() ? *std::move(lease) : nullptr;
  }
  static float ValueOf(const ModelLease& lease, int64_t expert) {
    // Tensor 0 is the trunk's.
    const auto vector = lease.Vector("vector." + std::to_string(expert + 1));
    return vector.ok() ? vector->front() : -1;
  }

  FakeStore store_;
  const int64_t unit_ = UnitMemory::Footprint(FakeStore::kUnitBytes);
  const std::unique_ptr<RamTier> tier_ = RamTier::Create(&store_, 3 * unit_);
  std::vector<int64_t> moved_;
};

TEST_F(ExpertsOnDemandTest, AreReadWhenWantedAndTheLongestUnusedGoes) {
  const auto lease = Acquire(FakeStore::Mixture("m", 1, {10, 11, 12, 13}));
  ASSERT_NE(lease, nullptr);
  ExpertCache* experts = lease->experts();
  ASSERT_NE(experts, nullptr);
  EXPECT_EQ(store_.reads, 2) << "the trunk's records alone";
  EXPECT_EQ(lease->Vector("vector.0")->front(), 1.0f);

  const std::vector<int64_t> all = {0, 1, 2, 3};
  EXPECT_EQ(*experts->Bring(0, all, &moved_), 2u) << "as many as fit";
  EXPECT_EQ(moved_, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(ValueOf(*lease, 0), 10.0f);
  EXPECT_EQ(ValueOf(*lease, 1), 11.0f);
  const std::vector<int64_t> first = {0};
  EXPECT_EQ(*experts->Bring(0, first, &moved_), 1u);
  EXPECT_TRUE(moved_.empty());
  const std::vector<int64_t> third = {2};
  EXPECT_EQ(*experts->Bring(0, third, &moved_), 1u);
  EXPECT_TRUE(experts->Has(0, 0)) << "used later than 1";
  EXPECT_FALSE(experts->Has(0, 1));
  EXPECT_EQ(ValueOf(*lease, 1), -1.0f) << "nowhere, and says so";
  const ExpertCacheStats stats = experts->Stats();
  EXPECT_EQ(stats.reads, 3);
  EXPECT_EQ(stats.hits, 1);
  EXPECT_EQ(stats.evictions, 1);
  EXPECT_EQ(stats.resident_bytes, 2 * unit_);
}

TEST_F(ExpertsOnDemandTest, EqualExpertsAreOne) {
  const auto lease = Acquire(FakeStore::Mixture("m", 1, {10, 10, 11, 10, 12}));
  ASSERT_NE(lease, nullptr);
  const std::vector<int64_t> all = {0, 1, 2, 3};
  EXPECT_EQ(*lease->experts()->Bring(0, all, &moved_), 4u);
  EXPECT_EQ(moved_, all);
  EXPECT_EQ(lease->experts()->Stats().reads, 2);
  EXPECT_EQ(ValueOf(*lease, 3), 10.0f);
}

TEST_F(ExpertsOnDemandTest, TheBudgetIsTakenAndGivenBack) {
  auto lease = Acquire(FakeStore::Mixture("m", 1, {10, 11, 12}));
  ASSERT_NE(lease, nullptr);
  EXPECT_EQ(tier_->Stats().resident_bytes, 3 * unit_);
  EXPECT_EQ(tier_->Stats().models.front().expert_cache_bytes, 2 * unit_);
  const auto other = FakeStore::Model("other", {20});
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      tier_->Acquire(other, absl::Now() + absl::Milliseconds(20)).status()));
  lease.reset();
  EXPECT_EQ(tier_->Stats().resident_bytes, unit_) << "the trunk, idle";
  EXPECT_NE(Acquire(other), nullptr);
  EXPECT_NE(Acquire(FakeStore::Mixture("small", 2, {10, 11})), nullptr);
}

TEST_F(ExpertsOnDemandTest, AMixtureThatCannotRunIsRefusedWithTheNumbers) {
  const auto tier = RamTier::Create(&store_, 3 * unit_ - 1);
  const auto lease = tier->Acquire(FakeStore::Mixture("m", 1, {10, 11, 12}),
                                   absl::InfiniteFuture());
  EXPECT_TRUE(absl::IsResourceExhausted(lease.status()));
  EXPECT_THAT(std::string(lease.status().message()),
              HasSubstr("with its experts read when they are wanted"));
}

TEST_F(ExpertsOnDemandTest, ACorruptExpertIsNamedAndOthersAreServed) {
  store_.corrupt = 11;
  const auto lease = Acquire(FakeStore::Mixture("m", 1, {10, 11, 12}));
  ASSERT_NE(lease, nullptr);
  ExpertCache* experts = lease->experts();
  const std::vector<int64_t> all = {0, 1, 2};
  EXPECT_EQ(*experts->Bring(0, all, &moved_), 1u);
  EXPECT_EQ(ValueOf(*lease, 0), 10.0f);
  const std::vector<int64_t> rest = {1, 2};
  const int reads = store_.reads;
  for (int i = 0; i < 2; ++i) {
    const auto brought = experts->Bring(0, rest, &moved_);
    EXPECT_TRUE(absl::IsDataLoss(brought.status()));
    EXPECT_THAT(std::string(brought.status().message()),
                HasSubstr("layer.0.expert.1 is corrupt"));
  }
  EXPECT_EQ(store_.reads, reads) << "known to be corrupt: not read again";
  const std::vector<int64_t> last = {2};
  EXPECT_EQ(*experts->Bring(0, last, &moved_), 1u);
  EXPECT_EQ(ValueOf(*lease, 2), 12.0f);
  const std::vector<int64_t> beyond = {3};
  EXPECT_TRUE(absl::IsNotFound(experts->Bring(0, beyond, &moved_).status()));
}

}  // namespace
}  // namespace conclave::weights
