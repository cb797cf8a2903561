#include "expert_workers/weights/ram_tier.h"

#include <absl/cleanup/cleanup.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/units.h"
#include "expert_workers/weights/unit_memory.h"
#include "expert_workers/weights/unit_views.h"

namespace conclave::weights {
namespace {

// Two threads on plain reads reach what the disk gives; more only wait.
constexpr int kReadThreads = 2;

// One unit in memory, or on its way there. Fields are guarded by the tier's
// mutex, except that the loader alone touches `memory` while `state` is
// kLoading, and nobody changes it while the unit is leased.
struct Unit {
  enum class State { kLoading, kResident, kFailed };
  UnitInfo info;
  int64_t footprint = 0;
  State state = State::kLoading;
  absl::Status failure;  // kFailed
  int num_leases = 0;
  UnitMemory memory;
  std::list<Unit*>::iterator idle;  // when resident and not leased
};
using UnitPtr = std::shared_ptr<Unit>;

// What a lease pins, and what it leaves to a cache of experts.
struct Plan {
  // A unit that stands twice in a model (equal layers) is loaded once.
  std::vector<const UnitInfo*> units;
  int64_t bytes = 0;  // their footprints
  int64_t cache_bytes = 0;
};

// Experts that a cache holds at the least: fewer would be read for one token
// and gone before the next. Two, so that one may be read beside another.
constexpr int64_t kLeastExperts = 2;

absl::StatusOr<Plan> PlanFor(const ModelManifest& manifest, int64_t budget) {
  Plan whole;
  Plan without_experts;
  std::set<Hash128> seen;
  for (const UnitInfo& info : manifest.units) {
    if (!seen.insert(info.digest).second) continue;
    const int64_t footprint = UnitMemory::Footprint(info.bytes);
    whole.units.push_back(&info);
    whole.bytes += footprint;
    if (ExpertCache::IsExpert(info)) continue;
    without_experts.units.push_back(&info);
    without_experts.bytes += footprint;
  }
  if (whole.bytes <= budget) return whole;
  const int64_t largest = ExpertCache::LargestFootprint(manifest);
  const int64_t least = without_experts.bytes + kLeastExperts * largest;
  if (largest > 0 && least <= budget) {
    without_experts.cache_bytes = budget - without_experts.bytes;
    return without_experts;
  }
  const int64_t need = largest > 0 ? least : whole.bytes;
  return ResourceExhausted(
      "the model needs {} of memory ({} bytes){}, the budget for weights is "
      "{} ({} bytes); raise --ram-budget",
      FormatBytes(need), need,
      largest > 0 ? " even with its experts read when they are wanted" : "",
      FormatBytes(budget), budget);
}

class RamTierImpl;

class Lease final : public ModelLease {
 public:
  Lease(RamTierImpl* tier, WeightStore* store,
        std::shared_ptr<const ModelManifest> manifest,
        std::vector<UnitPtr> units, int64_t cache_bytes);
  ~Lease() override;

  const ModelManifest& manifest() const override { return *manifest_; }

  absl::StatusOr<kernels::PackedMatrix> Matrix(
      std::string_view name) const override {
    return views_.Matrix(name);
  }
  absl::StatusOr<std::span<const float>> Vector(
      std::string_view name) const override {
    return views_.Vector(name);
  }
  bool Has(std::string_view name) const override { return views_.Has(name); }
  ExpertCache* experts() const override { return experts_.get(); }

 private:
  RamTierImpl* const tier_;
  const std::shared_ptr<const ModelManifest> manifest_;
  const std::vector<UnitPtr> units_;
  const int64_t cache_bytes_;
  UnitViews views_;
  std::unique_ptr<ExpertCache> experts_;
};

class RamTierImpl final : public RamTier {
 public:
  RamTierImpl(WeightStore* store, int64_t budget_bytes)
      : store_(store), budget_(budget_bytes) {}

  ~RamTierImpl() override {
    for (const auto& [version, model] : models_) {
      CHECK(model.num_leases == 0, "version {} is still leased", version);
    }
  }

  absl::StatusOr<std::unique_ptr<ModelLease>> Acquire(
      std::shared_ptr<const ModelManifest> manifest,
      absl::Time deadline) override {
    ASSIGN_OR_RETURN(const Plan plan, PlanFor(*manifest, budget_));
    std::vector<UnitPtr> units;
    std::vector<UnitPtr> mine;  // to load
    // What was evicted for this model: its pages hold this model next.
    std::vector<UnitMemory> spare;
    RETURN_IF_ERROR(Reserve(manifest, plan, deadline, &units, &mine, &spare));
    if (!mine.empty()) Load(mine, std::move(spare));
    const absl::Status loaded = WaitForUnits(units, deadline);
    if (!loaded.ok()) {
      Release(*manifest, units, plan.cache_bytes);
      return loaded;
    }
    return std::unique_ptr<ModelLease>(std::make_unique<Lease>(
        this, store_, std::move(manifest), std::move(units), plan.cache_bytes));
  }

  void Evict(std::string_view version) override {
    std::vector<UnitMemory> freed;
    const std::lock_guard lock(mutex_);
    const auto it = models_.find(version);
    if (it != models_.end()) {
      for (const UnitInfo& info : it->second.manifest->units) {
        quarantine_.erase(info.digest);
        const auto unit = units_.find(info.digest);
        if (unit != units_.end() && IsIdle(*unit->second)) {
          freed.push_back(Drop(unit->second.get()));
        }
      }
      ForgetAbsentModels();
    }
    changed_.notify_all();
  }

  RamTierStats Stats() const override {
    const std::lock_guard lock(mutex_);
    RamTierStats stats = stats_;
    stats.budget_bytes = budget_;
    stats.resident_bytes = reserved_;
    for (const auto& [digest, unit] : units_) {
      if (unit->num_leases > 0) stats.leased_bytes += unit->footprint;
    }
    for (const auto& [version, model] : models_) {
      ResidentModel resident;
      resident.version = version;
      resident.num_leases = model.num_leases;
      resident.expert_cache_bytes = model.cache_bytes;
      resident.resident_bytes = model.cache_bytes;
      stats.leased_bytes += model.cache_bytes;
      std::set<Hash128> seen;
      for (const UnitInfo& info : model.manifest->units) {
        if (!seen.insert(info.digest).second) continue;
        const int64_t footprint = UnitMemory::Footprint(info.bytes);
        resident.total_bytes += footprint;
        const auto unit = units_.find(info.digest);
        if (unit != units_.end() &&
            unit->second->state == Unit::State::kResident) {
          resident.resident_bytes += footprint;
        }
      }
      stats.models.push_back(std::move(resident));
    }
    return stats;
  }

  // Ends a lease, or an acquisition that failed.
  void Release(const ModelManifest& manifest, const std::vector<UnitPtr>& units,
               int64_t cache_bytes) {
    const std::lock_guard lock(mutex_);
    reserved_ -= cache_bytes;
    for (const UnitPtr& unit : units) {
      CHECK(unit->num_leases > 0, "unit {}", unit->info.name);
      if (--unit->num_leases == 0 && unit->state == Unit::State::kResident) {
        unit->idle = idle_.insert(idle_.end(), unit.get());
      }
    }
    Model& model = models_.find(manifest.version)->second;
    --model.num_leases;
    model.cache_bytes -= cache_bytes;
    ForgetAbsentModels();
    changed_.notify_all();
  }

 private:
  struct Model {
    std::shared_ptr<const ModelManifest> manifest;
    int num_leases = 0;
    int64_t cache_bytes = 0;  // reserved by its leases for experts
  };

  bool IsIdle(const Unit& unit) const {
    return unit.state == Unit::State::kResident && unit.num_leases == 0;
  }

  // Waits for room, then pins every unit; those absent become kLoading, and
  // `mine` to load; `freed` gets the memory of what was evicted. All or
  // nothing.
  absl::Status Reserve(const std::shared_ptr<const ModelManifest>& manifest,
                       const Plan& plan, absl::Time deadline,
                       std::vector<UnitPtr>* units, std::vector<UnitPtr>* mine,
                       std::vector<UnitMemory>* freed) {
    const std::vector<const UnitInfo*>& wanted = plan.units;
    std::unique_lock lock(mutex_);
    const uint64_t ticket = next_ticket_++;
    waiting_.insert(ticket);
    const absl::Cleanup leave = [this, ticket] {
      waiting_.erase(ticket);
      changed_.notify_all();
    };
    while (true) {
      RETURN_IF_ERROR(CheckQuarantine(wanted));
      const int64_t missing = MissingBytes(wanted) + plan.cache_bytes;
      const bool my_turn = *waiting_.begin() == ticket;
      if (missing == 0 || (my_turn && MakeRoom(wanted, missing, freed))) {
        Pin(manifest, plan, units, mine);
        return absl::OkStatus();
      }
      if (!WaitUntil(lock, deadline)) {
        return DeadlineExceeded(
            "the model needs {} more memory, and the leases of other models "
            "did not end in time ({} of {} in use)",
            FormatBytes(missing), FormatBytes(reserved_), FormatBytes(budget_));
      }
    }
  }

  absl::Status CheckQuarantine(
      const std::vector<const UnitInfo*>& wanted) const {
    for (const UnitInfo* info : wanted) {
      const auto it = quarantine_.find(info->digest);
      if (it != quarantine_.end()) return it->second;
    }
    return absl::OkStatus();
  }

  int64_t MissingBytes(const std::vector<const UnitInfo*>& wanted) const {
    int64_t missing = 0;
    for (const UnitInfo* info : wanted) {
      if (!units_.contains(info->digest)) {
        missing += UnitMemory::Footprint(info->bytes);
      }
    }
    return missing;
  }

  // Evicts the longest unused idle units that are not `wanted` until `need`
  // bytes are free; evicts nothing when that cannot be reached.
  bool MakeRoom(const std::vector<const UnitInfo*>& wanted, int64_t need,
                std::vector<UnitMemory>* freed) {
    int64_t room = budget_ - reserved_;
    std::vector<Unit*> victims;
    for (Unit* unit : idle_) {
      if (room >= need) break;
      const bool is_wanted =
          std::ranges::any_of(wanted, [unit](const UnitInfo* info) {
            return info->digest == unit->info.digest;
          });
      if (is_wanted) continue;
      victims.push_back(unit);
      room += unit->footprint;
    }
    if (room < need) return false;
    for (Unit* unit : victims) freed->push_back(Drop(unit));
    stats_.evictions += static_cast<int64_t>(victims.size());
    return true;
  }

  // Takes an idle unit out; the caller frees its memory.
  UnitMemory Drop(Unit* unit) {
    UnitMemory memory = std::move(unit->memory);
    idle_.erase(unit->idle);
    reserved_ -= unit->footprint;
    units_.erase(unit->info.digest);  // Destroys *unit.
    return memory;
  }

  void Pin(const std::shared_ptr<const ModelManifest>& manifest,
           const Plan& plan, std::vector<UnitPtr>* units,
           std::vector<UnitPtr>* mine) {
    reserved_ += plan.cache_bytes;
    for (const UnitInfo* info : plan.units) {
      UnitPtr& unit = units_[info->digest];
      if (unit == nullptr) {
        unit = std::make_shared<Unit>();
        unit->info = *info;
        unit->footprint = UnitMemory::Footprint(info->bytes);
        reserved_ += unit->footprint;
        mine->push_back(unit);
      } else if (IsIdle(*unit)) {
        idle_.erase(unit->idle);
      }
      ++unit->num_leases;
      units->push_back(unit);
    }
    Model& model = models_[manifest->version];
    model.manifest = manifest;
    ++model.num_leases;
    model.cache_bytes += plan.cache_bytes;
    ForgetAbsentModels();
  }

  // Reads `mine` with a few threads, record by record.
  void Load(const std::vector<UnitPtr>& mine, std::vector<UnitMemory> spare) {
    const int64_t start = Clock::Real().MonotonicNanos();
    struct Progress {
      std::atomic<size_t> left = 0;
      std::atomic<bool> failed = false;
      absl::Status status;  // the first failure; set by whoever set `failed`
    };
    struct Job {
      Unit* unit;
      Progress* progress;
      size_t record;
      int64_t offset;
    };
    std::vector<Progress> progress(mine.size());
    std::vector<Job> jobs;
    for (size_t i = 0; i < mine.size(); ++i) {
      Unit& unit = *mine[i];
      absl::StatusOr<UnitMemory> memory =
          UnitMemory::Allocate(unit.info.bytes, &spare);
      if (!memory.ok()) {
        Finish(mine[i], memory.status());
        continue;
      }
      unit.memory = *std::move(memory);
      const std::vector<int64_t>& records = unit.info.record_bytes;
      progress[i].left = records.size();
      if (records.empty()) Finish(mine[i], absl::OkStatus());
      int64_t offset = 0;
      for (size_t record = 0; record < records.size(); ++record) {
        jobs.push_back({&unit, &progress[i], record, offset});
        offset += records[record];
      }
    }
    std::atomic<size_t> next = 0;
    const auto work = [&] {
      for (size_t i = next++; i < jobs.size(); i = next++) {
        const Job& job = jobs[i];
        if (!job.progress->failed) {
          const absl::Status status =
              ReadInto(job.unit, job.record, job.offset);
          if (!status.ok() && !job.progress->failed.exchange(true)) {
            job.progress->status = status;
          }
        }
        if (--job.progress->left > 0) continue;
        const size_t index =
            static_cast<size_t>(job.progress - progress.data());
        Finish(mine[index], job.progress->status);
      }
    };
    spare.clear();
    {
      std::vector<std::jthread> helpers;
      for (int i = 1; i < kReadThreads && jobs.size() > 1; ++i) {
        helpers.emplace_back(work);
      }
      work();
    }
    const std::lock_guard lock(mutex_);
    stats_.load_nanos += Clock::Real().MonotonicNanos() - start;
  }

  absl::Status ReadInto(Unit* unit, size_t record, int64_t offset) {
    const auto size = static_cast<size_t>(unit->info.record_bytes[record]);
    return store_->ReadRecord(
        unit->info, record,
        unit->memory.bytes().subspan(static_cast<size_t>(offset), size));
  }

  // A unit's last record is in, or one failed.
  void Finish(const UnitPtr& unit, const absl::Status& status) {
    UnitMemory freed;
    const std::lock_guard lock(mutex_);
    if (status.ok()) {
      unit->state = Unit::State::kResident;
      ++stats_.loads;
    } else {
      // Joiners still hold the unit and see why; nobody finds it any more.
      unit->state = Unit::State::kFailed;
      unit->failure = status;
      freed = std::move(unit->memory);
      reserved_ -= unit->footprint;
      units_.erase(unit->info.digest);
      if (absl::IsDataLoss(status)) {
        quarantine_[unit->info.digest] = status;
      }
    }
    changed_.notify_all();
  }

  absl::Status WaitForUnits(const std::vector<UnitPtr>& units,
                            absl::Time deadline) {
    std::unique_lock lock(mutex_);
    while (true) {
      bool all = true;
      for (const UnitPtr& unit : units) {
        if (unit->state == Unit::State::kFailed) return unit->failure;
        all &= unit->state == Unit::State::kResident;
      }
      if (all) return absl::OkStatus();
      if (!WaitUntil(lock, deadline)) {
        return DeadlineExceeded("the model was not loaded in time");
      }
    }
  }

  // False when the deadline has passed.
  bool WaitUntil(std::unique_lock<std::mutex>& lock, absl::Time deadline) {
    if (deadline == absl::InfiniteFuture()) {
      changed_.wait(lock);
      return true;
    }
    return changed_.wait_until(lock, absl::ToChronoTime(deadline)) ==
           std::cv_status::no_timeout;
  }

  // Drops models of which nothing is resident, loading or leased.
  void ForgetAbsentModels() {
    std::erase_if(models_, [this](const auto& entry) {
      const Model& model = entry.second;
      if (model.num_leases > 0) return false;
      return std::ranges::none_of(model.manifest->units,
                                  [this](const UnitInfo& info) {
                                    return units_.contains(info.digest) ||
                                           quarantine_.contains(info.digest);
                                  });
    });
  }

  WeightStore* const store_;
  const int64_t budget_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // All below by mutex_.
  std::map<Hash128, UnitPtr> units_;
  std::map<Hash128, absl::Status> quarantine_;
  std::map<std::string, Model, std::less<>> models_;
  std::list<Unit*> idle_;  // longest unused first
  int64_t reserved_ = 0;   // footprints of units_, and caches of experts
  std::set<uint64_t> waiting_;
  uint64_t next_ticket_ = 0;
  RamTierStats stats_;
};

Lease::Lease(RamTierImpl* tier, WeightStore* store,
             std::shared_ptr<const ModelManifest> manifest,
             std::vector<UnitPtr> units, int64_t cache_bytes)
    : tier_(tier),
      manifest_(std::move(manifest)),
      units_(std::move(units)),
      cache_bytes_(cache_bytes) {
  std::map<Hash128, const Unit*> by_digest;
  for (const UnitPtr& unit : units_) by_digest[unit->info.digest] = unit.get();
  for (const UnitInfo& info : manifest_->units) {
    const auto unit = by_digest.find(info.digest);
    if (unit != by_digest.end()) views_.Map(info, unit->second->memory.data());
  }
  if (cache_bytes_ > 0) {
    experts_ = std::make_unique<ExpertCache>(store, manifest_.get(),
                                             cache_bytes_, &views_);
  }
}

Lease::~Lease() {
  experts_.reset();  // Its memory first, then the right to it.
  tier_->Release(*manifest_, units_, cache_bytes_);
}

}  // namespace

absl::StatusOr<int64_t> RamTier::Footprint(const ModelManifest& manifest,
                                           int64_t budget_bytes) {
  ASSIGN_OR_RETURN(const Plan plan, PlanFor(manifest, budget_bytes));
  return plan.bytes + plan.cache_bytes;
}

std::unique_ptr<RamTier> RamTier::Create(WeightStore* store,
                                         int64_t budget_bytes) {
  return std::make_unique<RamTierImpl>(store, budget_bytes);
}

}  // namespace conclave::weights
