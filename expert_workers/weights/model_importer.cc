#include "expert_workers/weights/model_importer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <system_error>

#include "base/check.h"
#include "expert_workers/weights/import_gguf.h"
#include "expert_workers/weights/import_safetensors.h"
#include "expert_workers/weights/manifest_codec.h"
#include "expert_workers/weights/sha256.h"
#include "expert_workers/weights/unit_layout.h"
#include "kernels/packed_matrix.h"

namespace conclave::weights {
namespace {

struct FreeAligned {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using AlignedBytes = std::unique_ptr<std::byte[], FreeAligned>;

constexpr size_t kPackThreads = 2;

AlignedBytes AllocateRecord() {
  auto* memory = static_cast<std::byte*>(
      std::aligned_alloc(64, static_cast<size_t>(kMaxRecordBytes)));
  CHECK(memory != nullptr, "no memory for one record");
  return AlignedBytes(memory);
}

// See UnitInfo::digest.
class UnitDigest {
 public:
  UnitDigest() { AddNumber(kernels::kPackedLayoutVersion); }
  void Add(std::span<const std::byte> record) {
    AddNumber(record.size());
    hash_.Update(record);
  }
  Hash128 Finish() {
    const std::array<uint8_t, 32> bytes = hash_.Finish();
    Hash128 digest;
    for (size_t i = 0; i < 8; ++i) {
      digest.high = digest.high << 8 | bytes[i];
      digest.low = digest.low << 8 | bytes[i + 8];
    }
    return digest;
  }

 private:
  void AddNumber(uint64_t number) {
    hash_.Update(std::as_bytes(std::span(&number, 1)));
  }
  Sha256Stream hash_;
};

// Hashes the source's files while they are packed: the pages are in memory
// for both, so the disk is read once.
class BackgroundDigest {
 public:
  explicit BackgroundDigest(const ModelSource& source)
      : result_(std::async(std::launch::async, [this, &source] {
          return SourceDigest(source.files, &stop_);
        })) {}
  ~BackgroundDigest() {
    stop_ = true;
    if (result_.valid()) result_.wait();
  }
  // Asks `progress` (of `bytes`, all done) meanwhile whether to go on.
  absl::StatusOr<std::string> Wait(int64_t bytes,
                                   const ImportProgress& progress) {
    constexpr std::chrono::milliseconds kBetweenLooks{50};
    while (progress &&
           result_.wait_for(kBetweenLooks) != std::future_status::ready) {
      RETURN_IF_ERROR(progress(bytes, bytes));
    }
    return result_.get();
  }

 private:
  std::atomic<bool> stop_ = false;
  std::future<absl::StatusOr<std::string>> result_;
};

using FillUnit =
    std::function<absl::Status(size_t record, std::span<std::byte> out)>;

class Packer {
 public:
  Packer(SegmentStore* segments, const ImportProgress& progress, int64_t total)
      : segments_(segments), progress_(progress), total_(total) {
    for (AlignedBytes& buffer : buffers_) buffer = AllocateRecord();
  }

  // Packs one unit into segment `segment`; sets plan->digest.
  absl::StatusOr<UnitRecord> Pack(const FillUnit& fill, uint64_t segment,
                                  UnitInfo* plan,
                                  std::unique_ptr<SegmentWriter>* writer) {
    ASSIGN_OR_RETURN(*writer, segments_->NewSegment(segment));
    UnitRecord stored;
    stored.segment = segment;
    UnitDigest digest;
    const size_t num_records = plan->record_bytes.size();
    for (size_t first = 0; first < num_records; first += kPackThreads) {
      const size_t last = std::min(first + kPackThreads, num_records);
      RETURN_IF_ERROR(Fill(fill, *plan, first, last));
      // Digest and file take the records in order.
      for (size_t i = first; i < last; ++i) {
        const std::span<std::byte> record = Buffer(*plan, first, i);
        digest.Add(record);
        stored.record_hashes.push_back(Xxh3_64(record));
        RETURN_IF_ERROR((*writer)->Append(record));
        done_ += plan->record_bytes[i];
        if (progress_) RETURN_IF_ERROR(progress_(done_, total_));
      }
    }
    plan->digest = digest.Finish();
    return stored;
  }

 private:
  std::span<std::byte> Buffer(const UnitInfo& plan, size_t first,
                              size_t record) const {
    return {buffers_[record - first].get(),
            static_cast<size_t>(plan.record_bytes[record])};
  }

  // Packs records first .. last-1, each on a thread of its own: packing is
  // most of an import's time.
  absl::Status Fill(const FillUnit& fill, const UnitInfo& plan, size_t first,
                    size_t last) const {
    std::vector<std::future<absl::Status>> others;
    for (size_t i = first + 1; i < last; ++i) {
      others.push_back(std::async(std::launch::async, [&, i] {
        return fill(i, Buffer(plan, first, i));
      }));
    }
    absl::Status status = fill(first, Buffer(plan, first, first));
    for (std::future<absl::Status>& other : others) {
      const absl::Status filled = other.get();
      if (status.ok()) status = filled;
    }
    return status;
  }

  SegmentStore* const segments_;
  const ImportProgress& progress_;
  const int64_t total_;
  std::array<AlignedBytes, kPackThreads> buffers_;
  int64_t done_ = 0;
};

int64_t TotalBytes(const std::vector<UnitInfo>& units) {
  int64_t bytes = 0;
  for (const UnitInfo& unit : units) bytes += unit.bytes;
  return bytes;
}

int64_t NumParameters(const std::vector<UnitInfo>& units) {
  int64_t count = 0;
  for (const UnitInfo& unit : units) {
    for (const TensorInfo& tensor : unit.tensors) {
      count += tensor.rows * tensor.cols;
    }
  }
  return count;
}

// The manifest's totals, its bytes and its version.
void Complete(const ModelSpec& spec, std::vector<UnitInfo> units,
              PackedModel* packed) {
  ModelManifest& manifest = packed->manifest;
  manifest.total_bytes = TotalBytes(units);
  manifest.parameters = NumParameters(units);
  manifest.spec = spec;
  manifest.units = std::move(units);
  packed->encoded = EncodeManifest(manifest);
  manifest.version = VersionOf(packed->encoded);
}

}  // namespace

absl::StatusOr<ModelSource> OpenModel(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return OpenSafetensors(*OpenFolder(path));
  }
  if (path.ends_with(".safetensors")) {
    return InvalidArgument(
        "{}: give the folder that holds it, with config.json and "
        "tokenizer.json",
        std::filesystem::path(path).filename().string());
  }
  ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> file, OpenFile(path));
  return OpenGguf(std::move(file));
}

absl::StatusOr<std::vector<UnitInfo>> PlanUnits(const ModelSource& source) {
  std::vector<UnitInfo> plan;
  for (const UnitSource& unit : source.units) {
    ASSIGN_OR_RETURN(UnitInfo info, PlanUnit(unit));
    plan.push_back(std::move(info));
  }
  return plan;
}

absl::StatusOr<std::string> WatchedDigest(const ModelSource& source,
                                          int64_t bytes,
                                          const ImportProgress& progress) {
  return BackgroundDigest(source).Wait(bytes, progress);
}

absl::StatusOr<PackedModel> PackModel(
    const ModelSource& source, std::vector<UnitInfo> plan,
    uint64_t first_segment, SegmentStore* segments,
    const std::function<bool(const Hash128&)>& is_known,
    const ImportProgress& progress) {
  BackgroundDigest source_digest(source);
  PackedModel packed;
  Packer packer(segments, progress, TotalBytes(plan));
  for (size_t i = 0; i < plan.size(); ++i) {
    std::unique_ptr<SegmentWriter> writer;
    ASSIGN_OR_RETURN(const UnitRecord stored,
                     packer.Pack(
                         [&, i](size_t record, std::span<std::byte> out) {
                           return FillRecord(source, source.units[i], plan[i],
                                             record, out);
                         },
                         first_segment + i, &plan[i], &writer));
    const Hash128& digest = plan[i].digest;
    // A unit that is stored already costs its packing, not its space.
    if (packed.new_units.contains(digest) || is_known(digest)) continue;
    RETURN_IF_ERROR(writer->Finish());
    packed.new_units.emplace(digest, stored);
  }
  ASSIGN_OR_RETURN(packed.manifest.source_digest,
                   source_digest.Wait(TotalBytes(plan), progress));
  for (const auto& file : source.files) {
    RETURN_IF_ERROR(file->CheckUnchanged());
  }
  Complete(source.spec, std::move(plan), &packed);
  return packed;
}

absl::StatusOr<PackedModel> PackDerived(
    const DerivedModel& model, uint64_t first_segment, SegmentStore* segments,
    const std::function<bool(const Hash128&)>& is_known,
    const ImportProgress& progress) {
  PackedModel packed;
  int64_t bytes = 0;
  for (const DerivedUnit& unit : model.units) {
    if (unit.info.digest == Hash128{}) bytes += unit.info.bytes;
  }
  Packer packer(segments, progress, bytes);
  std::vector<UnitInfo> units;
  for (const DerivedUnit& unit : model.units) {
    units.push_back(unit.info);
    UnitInfo& info = units.back();
    RETURN_IF_ERROR(CheckPlan(info));
    if (info.digest != Hash128{}) {
      if (is_known(info.digest)) continue;
      return NotFound("unit {} is not in the store any more", info.name);
    }
    std::unique_ptr<SegmentWriter> writer;
    ASSIGN_OR_RETURN(const UnitRecord stored,
                     packer.Pack(unit.fill, first_segment++, &info, &writer));
    if (packed.new_units.contains(info.digest) || is_known(info.digest)) {
      continue;
    }
    RETURN_IF_ERROR(writer->Finish());
    packed.new_units.emplace(info.digest, stored);
  }
  packed.manifest.lineage = model.lineage;
  packed.manifest.source_digest = Sha256Hex(model.lineage);
  Complete(model.spec, std::move(units), &packed);
  return packed;
}

}  // namespace conclave::weights
