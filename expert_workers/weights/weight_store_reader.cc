#include "expert_workers/weights/weight_store_reader.h"

#include <filesystem>
#include <map>
#include <mutex>
#include <vector>

#include "base/check.h"
#include "base/names.h"
#include "expert_workers/weights/catalog.h"
#include "expert_workers/weights/manifest_codec.h"
#include "expert_workers/weights/segment_store.h"

namespace conclave::weights {
namespace {

class WeightStoreReader final : public WeightStore {
 public:
  explicit WeightStoreReader(std::unique_ptr<SegmentStore> segments)
      : segments_(std::move(segments)) {}

  // Takes over what the owner has published since the last look.
  absl::Status Refresh() const {
    const std::lock_guard lock(mutex_);
    RETURN_IF_ERROR(segments_->CatchUp());
    std::map<std::string, NameRecord, std::less<>> names;
    std::map<Hash128, UnitRecord> units;
    RETURN_IF_ERROR(segments_->ForEachMeta(
        kNamePrefix, [&names](std::string_view key, std::string_view value) {
          ASSIGN_OR_RETURN(names[std::string(key.substr(1))],
                           DecodeName(value));
          return absl::OkStatus();
        }));
    RETURN_IF_ERROR(segments_->ForEachMeta(
        kUnitPrefix, [&units](std::string_view key, std::string_view value) {
          ASSIGN_OR_RETURN(const Hash128 digest, ParseUnitKey(key));
          ASSIGN_OR_RETURN(units[digest], DecodeUnit(value));
          return absl::OkStatus();
        }));
    names_ = std::move(names);
    units_ = std::move(units);
    return absl::OkStatus();
  }

  absl::StatusOr<ModelEntry> Import(const std::string&, const std::string&,
                                    const ImportProgress&) override {
    return FailedPrecondition(
        "this process only reads the weights; import through the service that "
        "owns them");
  }
  absl::StatusOr<ModelEntry> Derive(const DerivedModel&, const std::string&,
                                    const ImportProgress&) override {
    return FailedPrecondition(
        "this process only reads the weights; make models through the service "
        "that owns them");
  }
  absl::Status Remove(std::string_view) override {
    return FailedPrecondition(
        "this process only reads the weights; remove through the service that "
        "owns them");
  }

  std::vector<ModelEntry> List() const override {
    // What was known before is still true when the owner is mid-change.
    (void)Refresh();
    const std::lock_guard lock(mutex_);
    std::vector<ModelEntry> entries;
    for (const auto& [name, record] : names_) entries.push_back(record.entry);
    return entries;
  }

  absl::StatusOr<std::shared_ptr<const ModelManifest>> Manifest(
      std::string_view name_or_version) const override {
    absl::StatusOr<std::string> version = FindVersion(name_or_version);
    if (!version.ok()) {
      RETURN_IF_ERROR(Refresh());
      version = FindVersion(name_or_version);
    }
    RETURN_IF_ERROR(version.status());
    ASSIGN_OR_RETURN(const auto bytes,
                     segments_->GetMeta(ManifestKey(*version)));
    if (!bytes) return NotFound("version {} was removed", *version);
    ASSIGN_OR_RETURN(ModelManifest decoded, DecodeManifest(*bytes, *version));
    return std::make_shared<const ModelManifest>(std::move(decoded));
  }

  absl::Status ReadRecord(const UnitInfo& unit, size_t record,
                          std::span<std::byte> out) override {
    CHECK(record < unit.record_bytes.size() &&
              out.size() == static_cast<size_t>(unit.record_bytes[record]),
          "unit {}: record {} into {} bytes", unit.name, record, out.size());
    UnitRecord place;
    {
      const std::lock_guard lock(mutex_);
      const auto it = units_.find(unit.digest);
      if (it == units_.end() || record >= it->second.record_hashes.size()) {
        return NotFound("unit {} ({}) is not in the store", unit.name,
                        unit.digest.Hex());
      }
      place = it->second;
    }
    const absl::Status read = segments_->Read(
        place.segment, place.first_chunk + static_cast<uint32_t>(record), out);
    if (!read.ok()) {
      return Annotate(read,
                      fmt::format("unit {}, record {}", unit.name, record));
    }
    if (Xxh3_64(out) != place.record_hashes[record]) {
      return DataLoss("unit {}, record {}: its bytes are not the ones imported",
                      unit.name, record);
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<std::string> FindVersion(std::string_view wanted) const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> known;
    for (const auto& [name, record] : names_) {
      if (name == wanted || record.entry.version == wanted) {
        return record.entry.version;
      }
      known.push_back(name);
    }
    return NotFound("no model is called \"{}\".{}", wanted.substr(0, 100),
                    DidYouMean(wanted, known));
  }

  const std::unique_ptr<SegmentStore> segments_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, NameRecord, std::less<>> names_;
  mutable std::map<Hash128, UnitRecord> units_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WeightStore>> OpenWeightStoreReader(
    const std::string& path) {
  if (!std::filesystem::exists(path + "/CURRENT")) {
    return NotFound(
        "no weights at {}; import a model there first, or name another "
        "--data-dir",
        path);
  }
  ASSIGN_OR_RETURN(auto segments, SegmentStore::OpenReader(path));
  auto store = std::make_unique<WeightStoreReader>(std::move(segments));
  RETURN_IF_ERROR(store->Refresh());
  return std::unique_ptr<WeightStore>(std::move(store));
}

}  // namespace conclave::weights
