#include <fcntl.h>
#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/sst_file_writer.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>

#include "base/units.h"
#include "expert_workers/weights/catalog.h"
#include "expert_workers/weights/record_pool.h"
#include "expert_workers/weights/segment_store.h"

namespace conclave::weights {
namespace {

constexpr char kWeightsFamily[] = "weights";
constexpr char kMetaFamily[] = "meta";

rocksdb::Slice AsSlice(std::string_view text) {
  return {text.data(), text.size()};
}
std::string_view AsView(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}

absl::Status FromRocks(const rocksdb::Status& status, std::string_view doing) {
  if (status.ok()) return absl::OkStatus();
  const std::string why = status.ToString();
  if (status.IsNoSpace()) {
    return ResourceExhausted("{}: the disk is full: {}", doing, why);
  }
  if (status.IsCorruption() || status.IsNotFound() || status.IsPathNotFound() ||
      why.find("No such file") != std::string::npos) {
    return DataLoss("{}: {}", doing, why);
  }
  if (why.find("Permission denied") != std::string::npos ||
      why.find("Read-only file system") != std::string::npos) {
    return PermissionDenied("{}: {}", doing, why);
  }
  return Unavailable("{}: {}", doing, why);
}

// tmpfs, for one, knows no O_DIRECT.
bool SupportsDirectReads(const std::string& directory) {
  const std::string probe = directory + "/direct.probe";
  const int made = ::open(probe.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  if (made < 0) return false;
  ::close(made);
  const int fd = ::open(probe.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (fd >= 0) ::close(fd);
  ::unlink(probe.c_str());
  return fd >= 0;
}

rocksdb::ColumnFamilyOptions WeightsOptions() {
  rocksdb::ColumnFamilyOptions options;
  options.compression = rocksdb::kNoCompression;
  options.disable_auto_compactions = true;
  rocksdb::BlockBasedTableOptions table;
  table.checksum = rocksdb::kXXH3;
  // A record is over this, so it is a block of its own.
  table.block_size = 4096;
  // Nothing is read twice: the RAM tier is the cache.
  rocksdb::LRUCacheOptions cache;
  cache.capacity = 0;
  cache.memory_allocator = std::make_shared<RecordPool>();
  table.block_cache = rocksdb::NewLRUCache(cache);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

rocksdb::ColumnFamilyOptions MetaOptions() {
  rocksdb::ColumnFamilyOptions options;
  options.compression = rocksdb::kNoCompression;
  options.write_buffer_size = static_cast<size_t>(16 * kMiB);
  rocksdb::BlockBasedTableOptions table;
  table.checksum = rocksdb::kXXH3;
  table.block_cache = rocksdb::NewLRUCache(static_cast<size_t>(8 * kMiB));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

rocksdb::DBOptions DatabaseOptions(const std::string& path) {
  rocksdb::DBOptions options;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  // Buffered reads would keep every weight twice, here and in the page cache.
  options.use_direct_reads = SupportsDirectReads(path);
  // With it, one damaged file closes the whole store. Every write's status
  // and every record's hash is checked here instead.
  options.paranoid_checks = false;
  options.max_background_jobs = 2;
  // A file per unit: a hundred models would otherwise pass the usual limit of
  // 1024 descriptors. Opening one again costs two small reads.
  options.max_open_files = 256;
  options.stats_dump_period_sec = 0;
  options.info_log_level = rocksdb::WARN_LEVEL;
  options.keep_log_file_num = 2;
  options.max_manifest_file_size = static_cast<uint64_t>(16 * kMiB);
  options.max_total_wal_size = static_cast<uint64_t>(64 * kMiB);
  return options;
}

class RocksdbSegmentWriter final : public SegmentWriter {
 public:
  RocksdbSegmentWriter(const rocksdb::Options& options, std::string path,
                       uint64_t segment)
      : path_(std::move(path)),
        segment_(segment),
        writer_(rocksdb::EnvOptions(options), options) {}
  ~RocksdbSegmentWriter() override {
    if (!finished_) Discard();
  }

  absl::Status Start() {
    return FromRocks(writer_.Open(path_), "writing a segment");
  }

  absl::Status Append(std::span<const std::byte> record) override {
    const rocksdb::Slice value(reinterpret_cast<const char*>(record.data()),
                               record.size());
    return FromRocks(writer_.Put(RecordKey(segment_, next_++), value),
                     "writing a segment");
  }

  absl::Status Finish() override {
    RETURN_IF_ERROR(FromRocks(writer_.Finish(), "finishing a segment"));
    finished_ = true;
    return absl::OkStatus();
  }

  void Discard() override {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

 private:
  const std::string path_;
  const uint64_t segment_;
  rocksdb::SstFileWriter writer_;
  uint32_t next_ = 0;
  bool finished_ = false;
};

class RocksdbSegmentStore final : public SegmentStore {
 public:
  explicit RocksdbSegmentStore(const std::string& path)
      : path_(path), import_path_(path + "/import") {}

  ~RocksdbSegmentStore() override {
    if (db_ == nullptr) return;
    for (rocksdb::ColumnFamilyHandle* family : families_) {
      db_->DestroyColumnFamilyHandle(family);
    }
    db_->Close();
    if (!reader_log_path_.empty()) {
      std::error_code ignored;
      std::filesystem::remove_all(reader_log_path_, ignored);
    }
  }

  absl::Status Start() {
    // What an interrupted import left.
    std::error_code error;
    std::filesystem::remove_all(import_path_, error);
    std::filesystem::create_directories(import_path_, error);
    if (error) {
      return PermissionDenied("{}: {}", import_path_, error.message());
    }
    const rocksdb::DBOptions options = DatabaseOptions(path_);
    rocksdb::DB* db = nullptr;
    RETURN_IF_ERROR(FromRocks(
        rocksdb::DB::Open(options, path_, Families(), &families_, &db),
        "opening the weight store"));
    db_.reset(db);
    return absl::OkStatus();
  }

  absl::Status StartReader() {
    std::string log_path =
        (std::filesystem::temp_directory_path() / "conclave-reader-XXXXXX")
            .string();
    if (::mkdtemp(log_path.data()) == nullptr) {
      return PermissionDenied("{}: {}", log_path, std::strerror(errno));
    }
    reader_log_path_ = log_path;
    rocksdb::DBOptions options = DatabaseOptions(path_);
    options.create_if_missing = false;
    options.create_missing_column_families = false;
    // The owner may delete a file that we still read: an open one stays.
    options.max_open_files = -1;
    rocksdb::DB* db = nullptr;
    RETURN_IF_ERROR(
        FromRocks(rocksdb::DB::OpenAsSecondary(options, path_, reader_log_path_,
                                               Families(), &families_, &db),
                  "reading the weight store"));
    db_.reset(db);
    return absl::OkStatus();
  }

  absl::Status CatchUp() override {
    if (reader_log_path_.empty()) return absl::OkStatus();
    return FromRocks(db_->TryCatchUpWithPrimary(), "reading the weight store");
  }

  absl::StatusOr<std::unique_ptr<SegmentWriter>> NewSegment(
      uint64_t segment) override {
    const rocksdb::Options options(rocksdb::DBOptions(), WeightsOptions());
    auto writer = std::make_unique<RocksdbSegmentWriter>(
        options, SegmentPath(segment), segment);
    RETURN_IF_ERROR(writer->Start());
    return std::unique_ptr<SegmentWriter>(std::move(writer));
  }

  absl::Status Publish(const std::vector<uint64_t>& segments) override {
    if (segments.empty()) return absl::OkStatus();
    std::vector<std::string> files;
    for (const uint64_t segment : segments) {
      files.push_back(SegmentPath(segment));
    }
    rocksdb::IngestExternalFileOptions options;
    options.move_files = true;
    // Segment numbers only grow, so files never overlap and need no sequence
    // number written into them.
    options.allow_global_seqno = false;
    options.write_global_seqno = false;
    return FromRocks(db_->IngestExternalFile(weights(), files, options),
                     "publishing segments");
  }

  absl::Status Drop(uint64_t segment) override {
    const std::string begin = RecordKey(segment, 0);
    const std::string end = RecordKey(segment + 1, 0);
    const rocksdb::Slice begin_slice(begin);
    const rocksdb::Slice end_slice(end);
    return FromRocks(
        rocksdb::DeleteFilesInRange(db_.get(), weights(), &begin_slice,
                                    &end_slice, /*include_end=*/false),
        "dropping a segment");
  }

  std::vector<uint64_t> Segments() const override {
    std::vector<rocksdb::LiveFileMetaData> files;
    db_->GetLiveFilesMetaData(&files);
    std::set<uint64_t> segments;
    for (const rocksdb::LiveFileMetaData& file : files) {
      if (file.column_family_name != kWeightsFamily) continue;
      const auto segment = SegmentOfKey(file.smallestkey);
      if (segment.ok()) segments.insert(*segment);
    }
    return {segments.begin(), segments.end()};
  }

  absl::Status Read(uint64_t segment, uint32_t chunk,
                    std::span<std::byte> out) override {
    rocksdb::ReadOptions options;
    // The caller's own hash covers the payload; this one covers the block's
    // structure. Without it, one flipped bit in a key's length ended the
    // process: Debian's RocksDB is built with its assertions on.
    options.verify_checksums = true;
    options.fill_cache = false;
    rocksdb::PinnableSlice value;
    const std::string key = RecordKey(segment, chunk);
    RETURN_IF_ERROR(FromRocks(db_->Get(options, weights(), key, &value),
                              "reading a record"));
    if (value.size() != out.size()) {
      return DataLoss("a record has {} bytes instead of {}", value.size(),
                      out.size());
    }
    std::memcpy(out.data(), value.data(), out.size());
    return absl::OkStatus();
  }

  absl::Status ForEachMeta(
      char prefix,
      const std::function<absl::Status(std::string_view, std::string_view)>&
          use) const override {
    const std::unique_ptr<rocksdb::Iterator> it(
        db_->NewIterator(rocksdb::ReadOptions(), meta()));
    const std::string start(1, prefix);
    for (it->Seek(start); it->Valid() && it->key().starts_with(start);
         it->Next()) {
      RETURN_IF_ERROR(use(AsView(it->key()), AsView(it->value())));
    }
    return FromRocks(it->status(), "reading the catalogue");
  }

  absl::StatusOr<std::optional<std::string>> GetMeta(
      std::string_view key) const override {
    std::string value;
    const rocksdb::Status status =
        db_->Get(rocksdb::ReadOptions(), meta(), AsSlice(key), &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    RETURN_IF_ERROR(FromRocks(status, "reading the catalogue"));
    return std::optional<std::string>(std::move(value));
  }

  absl::Status WriteMeta(const MetaBatch& batch) override {
    rocksdb::WriteBatch writes;
    for (const auto& [key, value] : batch.puts) {
      RETURN_IF_ERROR(FromRocks(writes.Put(meta(), key, value), "a write"));
    }
    for (const std::string& key : batch.deletes) {
      RETURN_IF_ERROR(FromRocks(writes.Delete(meta(), key), "a write"));
    }
    rocksdb::WriteOptions options;
    options.sync = true;
    return FromRocks(db_->Write(options, &writes), "writing the catalogue");
  }

 private:
  static std::vector<rocksdb::ColumnFamilyDescriptor> Families() {
    return {
        {rocksdb::kDefaultColumnFamilyName, rocksdb::ColumnFamilyOptions()},
        {kWeightsFamily, WeightsOptions()},
        {kMetaFamily, MetaOptions()},
    };
  }
  rocksdb::ColumnFamilyHandle* weights() const { return families_[1]; }
  rocksdb::ColumnFamilyHandle* meta() const { return families_[2]; }
  std::string SegmentPath(uint64_t segment) const {
    return fmt::format("{}/{}.sst", import_path_, segment);
  }

  const std::string path_;
  const std::string import_path_;
  std::string reader_log_path_;  // a reader's own; empty: we own the store
  std::vector<rocksdb::ColumnFamilyHandle*> families_;
  std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SegmentStore>> SegmentStore::Open(
    const std::string& path) {
  auto store = std::make_unique<RocksdbSegmentStore>(path);
  RETURN_IF_ERROR(store->Start());
  return std::unique_ptr<SegmentStore>(std::move(store));
}

absl::StatusOr<std::unique_ptr<SegmentStore>> SegmentStore::OpenReader(
    const std::string& path) {
  auto store = std::make_unique<RocksdbSegmentStore>(path);
  RETURN_IF_ERROR(store->StartReader());
  return std::unique_ptr<SegmentStore>(std::move(store));
}

}  // namespace conclave::weights
