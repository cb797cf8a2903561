#include "expert_workers/weights/weight_store.h"

#include <absl/cleanup/cleanup.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <system_error>

#include "base/check.h"
#include "base/names.h"
#include "base/units.h"
#include "expert_workers/weights/byte_source.h"
#include "expert_workers/weights/catalog.h"
#include "expert_workers/weights/directory_lock.h"
#include "expert_workers/weights/manifest_codec.h"
#include "expert_workers/weights/model_importer.h"
#include "expert_workers/weights/segment_store.h"
#include "expert_workers/weights/weight_store_reader.h"

namespace conclave::weights {
namespace {

class RocksdbWeightStore final : public WeightStore {
 public:
  RocksdbWeightStore(Options options, std::unique_ptr<DirectoryLock> lock,
                     std::unique_ptr<SegmentStore> segments)
      : options_(std::move(options)),
        lock_(std::move(lock)),
        segments_(std::move(segments)) {}

  // Reads the catalogue, sweeps what an interrupted import or removal left.
  absl::Status Start() {
    RETURN_IF_ERROR(segments_->ForEachMeta(
        kNamePrefix, [this](std::string_view key, std::string_view value) {
          ASSIGN_OR_RETURN(NameRecord record, DecodeName(value));
          names_[std::string(key.substr(1))] = std::move(record);
          return absl::OkStatus();
        }));
    RETURN_IF_ERROR(segments_->ForEachMeta(
        kUnitPrefix, [this](std::string_view key, std::string_view value) {
          ASSIGN_OR_RETURN(const Hash128 digest, ParseUnitKey(key));
          ASSIGN_OR_RETURN(units_[digest], DecodeUnit(value));
          return absl::OkStatus();
        }));
    ASSIGN_OR_RETURN(const auto next, segments_->GetMeta(kNextSegmentKey));
    if (next) {
      if (next->size() != sizeof next_segment_) {
        return DataLoss("the segment counter is damaged");
      }
      std::memcpy(&next_segment_, next->data(), sizeof next_segment_);
    }
    return Sweep();
  }

  absl::StatusOr<ModelEntry> Import(const std::string& path,
                                    const std::string& name,
                                    const ImportProgress& progress) override {
    RETURN_IF_ERROR(CheckName("model", name));
    const std::lock_guard import_lock(import_mutex_);
    ASSIGN_OR_RETURN(const ModelSource source, OpenModel(path));
    if (const auto known = FindName(name)) {
      ASSIGN_OR_RETURN(
          const std::string digest,
          WatchedDigest(source, known->entry.total_bytes, progress));
      return CheckSame(*known, digest);
    }
    absl::StatusOr<ModelEntry> entry = PackAndPublish(source, name, progress);
    {
      const std::lock_guard lock(mutex_);
      pinned_.clear();
    }
    return entry;
  }

  absl::StatusOr<ModelEntry> Derive(const DerivedModel& model,
                                    const std::string& name,
                                    const ImportProgress& progress) override {
    RETURN_IF_ERROR(CheckName("model", name));
    const std::lock_guard import_lock(import_mutex_);
    if (const auto known = FindName(name)) {
      return CheckSame(*known, Sha256Hex(model.lineage));
    }
    absl::StatusOr<ModelEntry> entry =
        PackAndPublishDerived(model, name, progress);
    const std::lock_guard lock(mutex_);
    pinned_.clear();
    return entry;
  }

  std::vector<ModelEntry> List() const override {
    const std::shared_lock lock(mutex_);
    std::vector<ModelEntry> entries;
    for (const auto& [name, record] : names_) entries.push_back(record.entry);
    return entries;
  }

  absl::StatusOr<std::shared_ptr<const ModelManifest>> Manifest(
      std::string_view name_or_version) const override {
    std::string version;
    {
      const std::shared_lock lock(mutex_);
      ASSIGN_OR_RETURN(version, FindVersion(name_or_version));
      const auto cached = manifests_.find(version);
      if (cached != manifests_.end()) {
        if (auto manifest = cached->second.lock()) return manifest;
      }
    }
    ASSIGN_OR_RETURN(const auto bytes,
                     segments_->GetMeta(ManifestKey(version)));
    if (!bytes) return NotFound("version {} was removed", version);
    ASSIGN_OR_RETURN(ModelManifest decoded, DecodeManifest(*bytes, version));
    auto manifest = std::make_shared<const ModelManifest>(std::move(decoded));
    const std::lock_guard lock(mutex_);
    manifests_[version] = manifest;
    return manifest;
  }

  absl::Status Remove(std::string_view name) override {
    const std::lock_guard publish_lock(publish_mutex_);
    const std::optional<NameRecord> record = FindName(name);
    if (!record) {
      const std::shared_lock lock(mutex_);
      return UnknownModel(name);
    }
    MetaBatch batch;
    batch.deletes.push_back(NameKey(name));
    std::map<Hash128, UnitRecord> changed;
    if (NamesOf(record->entry.version).size() == 1) {
      ForgetVersion(*record, &changed, &batch);
    }
    RETURN_IF_ERROR(segments_->WriteMeta(batch));
    return FinishRemove(name, changed);
  }

  absl::Status ReadRecord(const UnitInfo& unit, size_t record,
                          std::span<std::byte> out) override {
    CHECK(record < unit.record_bytes.size() &&
              out.size() == static_cast<size_t>(unit.record_bytes[record]),
          "unit {}: record {} into {} bytes", unit.name, record, out.size());
    absl::Status status;
    // Once more before the data is given up: the flip may have happened on
    // the way.
    for (int attempt = 0; attempt < 2; ++attempt) {
      uint64_t segment = 0;
      uint32_t chunk = 0;
      uint64_t hash = 0;
      {
        const std::shared_lock lock(mutex_);
        const auto it = units_.find(unit.digest);
        if (it == units_.end() || record >= it->second.record_hashes.size()) {
          return NotFound("unit {} ({}) is not in the store", unit.name,
                          unit.digest.Hex());
        }
        segment = it->second.segment;
        chunk = it->second.first_chunk + static_cast<uint32_t>(record);
        hash = it->second.record_hashes[record];
      }
      status = segments_->Read(segment, chunk, out);
      if (status.ok() && Xxh3_64(out) == hash) return absl::OkStatus();
      if (status.ok()) {
        status = DataLoss("its bytes are not the ones imported");
      }
    }
    return MakeStatus(status.code(), "{}, unit {}, record {}: {}",
                      UsersOf(unit.digest), unit.name, record, Message(status));
  }

 private:
  // mutex_ held.
  absl::StatusOr<std::string> FindVersion(
      std::string_view name_or_version) const {
    const auto it = names_.find(name_or_version);
    if (it != names_.end()) return it->second.entry.version;
    for (const auto& [name, record] : names_) {
      if (record.entry.version == name_or_version) {
        return record.entry.version;
      }
    }
    return UnknownModel(name_or_version);
  }

  // mutex_ held.
  absl::Status UnknownModel(std::string_view name) const {
    std::vector<std::string> known;
    for (const auto& [other, record] : names_) known.push_back(other);
    return NotFound("no model is called \"{}\".{}", name.substr(0, 100),
                    DidYouMean(name, known));
  }

  std::optional<NameRecord> FindName(std::string_view name) const {
    const std::shared_lock lock(mutex_);
    const auto it = names_.find(name);
    if (it == names_.end()) return std::nullopt;
    return it->second;
  }

  std::vector<std::string> NamesOf(std::string_view version) const {
    const std::shared_lock lock(mutex_);
    std::vector<std::string> names;
    for (const auto& [name, record] : names_) {
      if (record.entry.version == version) names.push_back(name);
    }
    return names;
  }

  // A second import under one name: fine when nothing would change.
  absl::StatusOr<ModelEntry> CheckSame(const NameRecord& known,
                                       const std::string& digest) const {
    if (digest == known.source_digest) {
      RETURN_IF_ERROR(Manifest(known.entry.version));
      return known.entry;
    }
    return AlreadyExists(
        "model \"{}\" exists as version {} from {}; choose another name, or "
        "remove it first",
        known.entry.name, known.entry.version.substr(0, 12),
        known.entry.source);
  }

  absl::Status CheckFreeSpace(const std::string& source, int64_t bytes) const {
    std::error_code error;
    const auto space = std::filesystem::space(options_.path, error);
    if (error) return absl::OkStatus();  // Not known: the writes will tell.
    const int64_t need = bytes + bytes / 10 + options_.reserve_bytes;
    if (space.available >= static_cast<uint64_t>(need)) {
      return absl::OkStatus();
    }
    return ResourceExhausted(
        "importing {} needs {} ({} packed, 10 % more, {} kept free), but {} "
        "has {} free",
        source, FormatBytes(need), FormatBytes(bytes),
        FormatBytes(options_.reserve_bytes), options_.path,
        FormatBytes(static_cast<int64_t>(space.available)));
  }

  // Numbers for `count` segments. Written down before use: a number that a
  // killed import took is never given out again.
  absl::StatusOr<uint64_t> TakeSegments(uint64_t count) {
    const uint64_t first = next_segment_;
    const uint64_t next = first + count;
    MetaBatch batch;
    batch.puts.emplace_back(
        kNextSegmentKey,
        std::string(reinterpret_cast<const char*>(&next), sizeof next));
    RETURN_IF_ERROR(segments_->WriteMeta(batch));
    next_segment_ = next;
    return first;
  }

  absl::StatusOr<ModelEntry> PackAndPublish(const ModelSource& source,
                                            const std::string& name,
                                            const ImportProgress& progress) {
    ASSIGN_OR_RETURN(std::vector<UnitInfo> plan, PlanUnits(source));
    int64_t bytes = 0;
    for (const UnitInfo& unit : plan) bytes += unit.bytes;
    RETURN_IF_ERROR(CheckFreeSpace(source.name, bytes));
    ASSIGN_OR_RETURN(const uint64_t first, TakeSegments(plan.size()));
    const size_t num_units = plan.size();
    const absl::Cleanup clean = [=, this] { CleanImport(first, num_units); };
    absl::StatusOr<PackedModel> packed = PackModel(
        source, std::move(plan), first, segments_.get(),
        [this](const Hash128& digest) { return PinIfKnown(digest); }, progress);
    if (!packed.ok()) return Annotate(packed.status(), source.name);
    return Publish(source.name, name, *packed);
  }

  absl::StatusOr<ModelEntry> PackAndPublishDerived(
      const DerivedModel& model, const std::string& name,
      const ImportProgress& progress) {
    int64_t bytes = 0;
    size_t num_units = 0;
    for (const DerivedUnit& unit : model.units) {
      if (unit.info.digest != Hash128{}) continue;
      bytes += unit.info.bytes;
      ++num_units;
    }
    RETURN_IF_ERROR(CheckFreeSpace(model.source, bytes));
    ASSIGN_OR_RETURN(const uint64_t first, TakeSegments(num_units));
    const absl::Cleanup clean = [=, this] { CleanImport(first, num_units); };
    absl::StatusOr<PackedModel> packed = PackDerived(
        model, first, segments_.get(),
        [this](const Hash128& digest) { return PinIfKnown(digest); }, progress);
    if (!packed.ok()) return Annotate(packed.status(), model.source);
    return Publish(model.source, name, *packed);
  }

  // Whatever happens, nothing stays in the import folder.
  void CleanImport(uint64_t first, size_t num_units) const {
    for (size_t i = 0; i < num_units; ++i) {
      std::error_code ignored;
      std::filesystem::remove(
          fmt::format("{}/import/{}.sst", options_.path, first + i), ignored);
    }
  }

  // From here to the end of the import, Remove() leaves the unit alone.
  bool PinIfKnown(const Hash128& digest) {
    const std::lock_guard lock(mutex_);
    if (!units_.contains(digest)) return false;
    pinned_.insert(digest);
    return true;
  }

  // Segments first, then one synchronous batch that makes them a model. Killed
  // in between, the segments are orphans, which Sweep() drops.
  absl::StatusOr<ModelEntry> Publish(const std::string& source,
                                     const std::string& name,
                                     const PackedModel& packed) {
    const std::lock_guard publish_lock(publish_mutex_);
    const ModelManifest& manifest = packed.manifest;
    NameRecord record;
    record.entry = {name,
                    manifest.version,
                    manifest.spec.hyperparameters.architecture,
                    manifest.total_bytes,
                    manifest.parameters,
                    source};
    record.source_digest = manifest.source_digest;
    for (const UnitInfo& unit : manifest.units) {
      record.units.push_back(unit.digest);
    }
    MetaBatch batch;
    batch.puts.emplace_back(NameKey(name), Encode(record));
    std::map<Hash128, UnitRecord> changed;
    if (NamesOf(manifest.version).empty()) {
      batch.puts.emplace_back(ManifestKey(manifest.version), packed.encoded);
      changed = UnitsWithOneMore(packed);
      for (const auto& [digest, unit] : changed) {
        batch.puts.emplace_back(UnitKey(digest), Encode(unit));
      }
      std::vector<uint64_t> fresh;
      for (const auto& [digest, unit] : packed.new_units) {
        fresh.push_back(unit.segment);
      }
      std::ranges::sort(fresh);
      RETURN_IF_ERROR(segments_->Publish(fresh));
    }
    RETURN_IF_ERROR(segments_->WriteMeta(batch));
    const std::lock_guard lock(mutex_);
    for (const auto& [digest, unit] : changed) units_[digest] = unit;
    names_[name] = record;
    return record.entry;
  }

  std::map<Hash128, UnitRecord> UnitsWithOneMore(
      const PackedModel& packed) const {
    const std::shared_lock lock(mutex_);
    std::map<Hash128, UnitRecord> changed;
    for (const UnitInfo& unit : packed.manifest.units) {
      if (changed.contains(unit.digest)) continue;
      const auto fresh = packed.new_units.find(unit.digest);
      UnitRecord record = fresh != packed.new_units.end()
                              ? fresh->second
                              : units_.find(unit.digest)->second;
      ++record.num_manifests;
      changed.emplace(unit.digest, std::move(record));
    }
    return changed;
  }

  // Adds to `batch` what ends a version that no name refers to any more.
  void ForgetVersion(const NameRecord& name,
                     std::map<Hash128, UnitRecord>* changed,
                     MetaBatch* batch) const {
    batch->deletes.push_back(ManifestKey(name.entry.version));
    const std::shared_lock lock(mutex_);
    for (const Hash128& digest : name.units) {
      const auto it = units_.find(digest);
      if (it == units_.end() || changed->contains(digest)) continue;
      UnitRecord record = it->second;
      if (record.num_manifests > 0) --record.num_manifests;
      if (record.num_manifests == 0 && !pinned_.contains(digest)) {
        batch->deletes.push_back(UnitKey(digest));
      } else {
        batch->puts.emplace_back(UnitKey(digest), Encode(record));
      }
      changed->emplace(digest, std::move(record));
    }
  }

  absl::Status FinishRemove(std::string_view name,
                            const std::map<Hash128, UnitRecord>& changed) {
    std::vector<uint64_t> dead;
    {
      const std::lock_guard lock(mutex_);
      names_.erase(names_.find(name));
      for (const auto& [digest, unit] : changed) {
        if (unit.num_manifests == 0 && !pinned_.contains(digest)) {
          dead.push_back(unit.segment);
          units_.erase(digest);
        } else {
          units_[digest] = unit;
        }
      }
    }
    for (const uint64_t segment : dead) {
      RETURN_IF_ERROR(segments_->Drop(segment));
    }
    return absl::OkStatus();
  }

  absl::Status Sweep() {
    MetaBatch batch;
    std::set<uint64_t> live;
    for (auto it = units_.begin(); it != units_.end();) {
      if (it->second.num_manifests > 0) {
        live.insert(it->second.segment);
        ++it;
      } else {
        batch.deletes.push_back(UnitKey(it->first));
        it = units_.erase(it);
      }
    }
    if (!batch.deletes.empty()) RETURN_IF_ERROR(segments_->WriteMeta(batch));
    for (const uint64_t segment : segments_->Segments()) {
      if (!live.contains(segment)) RETURN_IF_ERROR(segments_->Drop(segment));
    }
    return absl::OkStatus();
  }

  // "model chat" or "models chat, code": for messages.
  std::string UsersOf(const Hash128& digest) const {
    std::string users;
    int count = 0;
    const std::shared_lock lock(mutex_);
    for (const auto& [name, record] : names_) {
      if (std::ranges::find(record.units, digest) == record.units.end()) {
        continue;
      }
      users += fmt::format("{}{}", users.empty() ? "" : ", ", name);
      ++count;
    }
    return fmt::format("{} {}", count == 1 ? "model" : "models", users);
  }

  const Options options_;
  // Before segments_, so that it is let go after them.
  const std::unique_ptr<DirectoryLock> lock_;
  const std::unique_ptr<SegmentStore> segments_;

  // Order: import_mutex_, publish_mutex_, mutex_.
  std::mutex import_mutex_;   // one import at a time
  std::mutex publish_mutex_;  // segments come and go one after the other
  mutable std::shared_mutex mutex_;
  std::map<std::string, NameRecord, std::less<>> names_;  // by mutex_
  std::map<Hash128, UnitRecord> units_;                   // by mutex_
  // Known units that the running import relies on. By mutex_.
  std::set<Hash128> pinned_;
  // By mutex_.
  mutable std::map<std::string, std::weak_ptr<const ModelManifest>> manifests_;
  uint64_t next_segment_ = 1;  // by import_mutex_
};

}  // namespace

absl::StatusOr<std::unique_ptr<WeightStore>> WeightStore::Open(
    Options options) {
  if (options.read_only) return OpenWeightStoreReader(options.path);
  ASSIGN_OR_RETURN(std::unique_ptr<DirectoryLock> lock,
                   DirectoryLock::Acquire(options.path));
  ASSIGN_OR_RETURN(std::unique_ptr<SegmentStore> segments,
                   SegmentStore::Open(options.path));
  auto store = std::make_unique<RocksdbWeightStore>(
      std::move(options), std::move(lock), std::move(segments));
  RETURN_IF_ERROR(store->Start());
  return std::unique_ptr<WeightStore>(std::move(store));
}

}  // namespace conclave::weights
