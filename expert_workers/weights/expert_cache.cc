#include "expert_workers/weights/expert_cache.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <thread>

#include "base/clock.h"

namespace conclave::weights {
namespace {

// Two threads on plain reads reach what the disk gives; more only wait.
constexpr int kReadThreads = 2;

struct ExpertName {
  int64_t layer = 0;
  int64_t expert = 0;
};

bool TakeWord(std::string_view* text, std::string_view word) {
  if (!text->starts_with(word)) return false;
  text->remove_prefix(word.size());
  return true;
}

bool TakeNumber(std::string_view* text, int64_t* number) {
  const char* end = text->data() + text->size();
  const auto [next, error] = std::from_chars(text->data(), end, *number);
  if (error != std::errc() || *number < 0) return false;
  text->remove_prefix(static_cast<size_t>(next - text->data()));
  return true;
}

// "layer.3.expert.17"
bool Parse(std::string_view text, ExpertName* name) {
  return TakeWord(&text, "layer.") && TakeNumber(&text, &name->layer) &&
         TakeWord(&text, ".expert.") && TakeNumber(&text, &name->expert) &&
         text.empty();
}

}  // namespace

bool ExpertCache::IsExpert(const UnitInfo& unit) {
  ExpertName name;
  return Parse(unit.name, &name);
}

int64_t ExpertCache::LargestFootprint(const ModelManifest& manifest) {
  int64_t largest = 0;
  for (const UnitInfo& unit : manifest.units) {
    if (!IsExpert(unit)) continue;
    largest = std::max(largest, UnitMemory::Footprint(unit.bytes));
  }
  return largest;
}

ExpertCache::ExpertCache(WeightStore* store, const ModelManifest* manifest,
                         int64_t budget_bytes, UnitViews* views)
    : store_(store), budget_(budget_bytes), views_(views) {
  const ModelHyperparameters& model = manifest->spec.hyperparameters;
  layers_.resize(static_cast<size_t>(model.num_layers));
  for (const UnitInfo& unit : manifest->units) {
    ExpertName name;
    if (!Parse(unit.name, &name)) continue;
    named_by_[unit.digest].push_back(&unit);
    views_->Map(unit, nullptr);
    if (name.layer >= model.num_layers ||
        name.expert >= model.moe.num_experts) {
      continue;  // Nobody can ask for it.
    }
    std::vector<Expert>& layer = layers_[static_cast<size_t>(name.layer)];
    layer.resize(static_cast<size_t>(model.moe.num_experts));
    layer[static_cast<size_t>(name.expert)].unit = &unit;
  }
}

absl::StatusOr<size_t> ExpertCache::Bring(int64_t layer,
                                          std::span<const int64_t> experts,
                                          std::vector<int64_t>* moved) {
  moved->clear();
  ++calls_;
  std::vector<Expert*> wanted;
  std::vector<const UnitInfo*> units;  // to read
  std::vector<Entry*> fresh;           // for them
  absl::Status stopped;                // why `wanted` is not all
  for (const int64_t number : experts) {
    absl::StatusOr<Expert*> expert = Find(layer, number);
    if (!expert.ok()) {
      stopped = expert.status();
      break;
    }
    const UnitInfo& unit = *(*expert)->unit;
    if (const auto bad = corrupt_.find(unit.digest); bad != corrupt_.end()) {
      stopped = bad->second;
      break;
    }
    if (const auto it = by_digest_.find(unit.digest); it != by_digest_.end()) {
      it->second->call = calls_;
      entries_.splice(entries_.end(), entries_, it->second);
      ++hits_;
    } else {
      const int64_t footprint = UnitMemory::Footprint(unit.bytes);
      if (!MakeRoom(footprint)) break;
      auto memory = UnitMemory::Allocate(unit.bytes, &spare_);
      if (!memory.ok()) {
        stopped = memory.status();
        break;
      }
      Entry& entry = entries_.emplace_back();
      entry.digest = unit.digest;
      entry.memory = *std::move(memory);
      entry.footprint = footprint;
      entry.age = ++ages_;
      entry.call = calls_;
      by_digest_[unit.digest] = std::prev(entries_.end());
      used_ += footprint;
      units.push_back(&unit);
      fresh.push_back(&entry);
    }
    wanted.push_back(*expert);
  }

  const std::vector<absl::Status> outcomes = Read(units, fresh);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    if (outcomes[i].ok()) {
      for (const UnitInfo* unit : named_by_.at(units[i]->digest)) {
        views_->Map(*unit, fresh[i]->memory.data());
      }
      continue;
    }
    if (absl::IsDataLoss(outcomes[i])) {
      corrupt_[units[i]->digest] = outcomes[i];
    }
    Drop(by_digest_.at(units[i]->digest));
    // What stands before the first that failed can be used.
    const auto first = std::ranges::find_if(wanted, [&](const Expert* expert) {
      return expert->unit->digest == units[i]->digest;
    });
    if (first != wanted.end()) {
      wanted.erase(first, wanted.end());
      stopped = outcomes[i];
    }
  }
  resident_ = used_;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const uint64_t age = by_digest_.at(wanted[i]->unit->digest)->age;
    if (std::exchange(wanted[i]->seen, age) != age) {
      moved->push_back(experts[i]);
    }
  }
  if (wanted.empty() && !stopped.ok()) return stopped;
  if (wanted.empty() && !experts.empty()) {
    return Internal("no expert fits {} bytes", budget_);
  }
  return wanted.size();
}

bool ExpertCache::Has(int64_t layer, int64_t expert) const {
  const auto& experts = layers_.at(static_cast<size_t>(layer));
  const UnitInfo* unit = experts.at(static_cast<size_t>(expert)).unit;
  return unit != nullptr && by_digest_.contains(unit->digest);
}

ExpertCacheStats ExpertCache::Stats() const {
  return {.hits = hits_,
          .reads = reads_,
          .evictions = evictions_,
          .read_nanos = read_nanos_,
          .resident_bytes = resident_};
}

absl::StatusOr<ExpertCache::Expert*> ExpertCache::Find(int64_t layer,
                                                       int64_t expert) {
  if (layer >= 0 && layer < static_cast<int64_t>(layers_.size())) {
    std::vector<Expert>& experts = layers_[static_cast<size_t>(layer)];
    if (expert >= 0 && expert < static_cast<int64_t>(experts.size()) &&
        experts[static_cast<size_t>(expert)].unit != nullptr) {
      return &experts[static_cast<size_t>(expert)];
    }
  }
  return NotFound("the model has no expert {} in layer {}", expert, layer);
}

bool ExpertCache::MakeRoom(int64_t footprint) {
  while (used_ + footprint > budget_) {
    const auto oldest = entries_.begin();
    if (oldest == entries_.end() || oldest->call == calls_) return false;
    Drop(oldest);
    ++evictions_;
  }
  return true;
}

void ExpertCache::Drop(Entries::iterator entry) {
  for (const UnitInfo* unit : named_by_.at(entry->digest)) {
    views_->Map(*unit, nullptr);
  }
  used_ -= entry->footprint;
  spare_.push_back(std::move(entry->memory));
  by_digest_.erase(entry->digest);
  entries_.erase(entry);
}

std::vector<absl::Status> ExpertCache::Read(
    const std::vector<const UnitInfo*>& units,
    const std::vector<Entry*>& fresh) {
  spare_.clear();  // Beyond the budget from here on.
  std::vector<absl::Status> outcomes(units.size());
  if (units.empty()) return outcomes;
  const int64_t start = Clock::Real().MonotonicNanos();
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i = next++; i < units.size(); i = next++) {
      const UnitInfo& unit = *units[i];
      size_t offset = 0;
      for (size_t record = 0;
           record < unit.record_bytes.size() && outcomes[i].ok(); ++record) {
        const auto size = static_cast<size_t>(unit.record_bytes[record]);
        outcomes[i] = store_->ReadRecord(
            unit, record, fresh[i]->memory.bytes().subspan(offset, size));
        offset += size;
      }
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (int i = 1; i < kReadThreads && units.size() > 1; ++i) {
      helpers.emplace_back(work);
    }
    work();
  }
  reads_ += static_cast<int64_t>(units.size());
  read_nanos_ += Clock::Real().MonotonicNanos() - start;
  return outcomes;
}

}  // namespace conclave::weights
