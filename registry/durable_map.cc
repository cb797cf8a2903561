#include "registry/durable_map.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

namespace conclave::registry {
namespace {

bool Mentions(const std::string& text, std::string_view word) {
  return text.find(word) != std::string::npos;
}

absl::Status FromRocks(const rocksdb::Status& status, const std::string& path) {
  if (status.ok()) return absl::OkStatus();
  const std::string text = status.ToString();
  if (status.IsNoSpace() || Mentions(text, "No space left") ||
      Mentions(text, "Disk quota")) {
    return ResourceExhausted(
        "disk full: {} cannot be written; make room and try again", path);
  }
  if (Mentions(text, "Permission denied") || Mentions(text, "Read-only")) {
    return PermissionDenied(
        "{} is not writable for this user; change its owner, or give another "
        "--data-dir",
        path);
  }
  if (status.IsIOError() &&
      (Mentions(text, "lock file") || Mentions(text, "lock hold") ||
       Mentions(text, "LOCK"))) {
    return Unavailable(
        "{} is held by another process; talk to that service (--server), stop "
        "it, or give another --data-dir",
        path);
  }
  if (status.IsCorruption()) {
    return DataLoss(
        "the registry in {} is damaged ({}); restore it from a "
        "backup, or move it away and register again",
        path, text);
  }
  return Unavailable("{}: {}", path, text);
}

rocksdb::Options SmallOptions() {
  rocksdb::Options options;
  options.create_if_missing = true;
  // A registry is megabytes: what matters is to open fast and to use little.
  options.write_buffer_size = 4 << 20;
  options.max_write_buffer_number = 2;
  options.max_open_files = 64;
  options.max_background_jobs = 1;
  options.keep_log_file_num = 2;
  options.max_log_file_size = 1 << 20;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.stats_dump_period_sec = 0;
  // Every acknowledged batch was synced, so that damage before the tail is
  // damage, not a torn write: refuse instead of dropping acknowledged state.
  options.wal_recovery_mode =
      rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  return options;
}

absl::StatusOr<std::unique_ptr<rocksdb::DB>> OpenRocks(
    const std::string& path) {
  rocksdb::DB* db = nullptr;
  RETURN_IF_ERROR(
      FromRocks(rocksdb::DB::Open(SmallOptions(), path, &db), path));
  return std::unique_ptr<rocksdb::DB>(db);
}

class RocksDbMap final : public DurableMap {
 public:
  RocksDbMap(std::string path, std::unique_ptr<rocksdb::DB> db)
      : path_(std::move(path)), db_(std::move(db)) {}

  absl::Status ForEach(
      const std::function<absl::Status(std::string_view, std::string_view)>&
          visit) override {
    std::unique_ptr<rocksdb::Iterator> it(
        db_->NewIterator(rocksdb::ReadOptions()));
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
      RETURN_IF_ERROR(visit({it->key().data(), it->key().size()},
                            {it->value().data(), it->value().size()}));
    }
    return FromRocks(it->status(), path_);
  }

  absl::Status Apply(const std::vector<Write>& writes) override {
    // After a failed write RocksDB refuses all others (Resume() was tried: the
    // log file keeps its error). Only opening again helps.
    if (db_ == nullptr) {
      ASSIGN_OR_RETURN(db_, OpenRocks(path_));
    }
    rocksdb::WriteBatch batch;
    RETURN_IF_ERROR(Append(undo_, batch));
    RETURN_IF_ERROR(Append(writes, batch));
    rocksdb::WriteOptions synchronous;
    synchronous.sync = true;
    const rocksdb::Status written = db_->Write(synchronous, &batch);
    if (written.ok()) {
      undo_.clear();
      return absl::OkStatus();
    }
    AddUndo(writes);
    db_.reset();
    return FromRocks(written, path_);
  }

 private:
  absl::Status Append(const std::vector<Write>& writes,
                      rocksdb::WriteBatch& batch) const {
    for (const Write& write : writes) {
      const rocksdb::Status added = write.value.has_value()
                                        ? batch.Put(write.key, *write.value)
                                        : batch.Delete(write.key);
      RETURN_IF_ERROR(FromRocks(added, path_));
    }
    return absl::OkStatus();
  }

  // A batch whose write failed may still lie whole in the log and come back
  // when it is read. What it would change is therefore put back, as readers
  // know it, in one batch with the next write.
  void AddUndo(const std::vector<Write>& writes) {
    for (const Write& write : writes) {
      const bool known =
          std::any_of(undo_.begin(), undo_.end(),
                      [&](const Write& u) { return u.key == write.key; });
      if (known) continue;
      std::string value;
      if (db_->Get(rocksdb::ReadOptions(), write.key, &value).ok()) {
        undo_.push_back({write.key, std::move(value)});
      } else {
        undo_.push_back({write.key, std::nullopt});
      }
    }
  }

  const std::string path_;
  std::unique_ptr<rocksdb::DB> db_;  // null after a failed write
  std::vector<Write> undo_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DurableMap>> DurableMap::Open(
    const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error == std::errc::permission_denied ||
      error == std::errc::read_only_file_system) {
    return PermissionDenied(
        "{} cannot be made: {}; change the owner of the folder above, or give "
        "another --data-dir",
        path, error.message());
  }
  if (error || !std::filesystem::is_directory(path)) {
    return InvalidArgument(
        "{} cannot be a directory: {}; give another "
        "--data-dir",
        path, error ? error.message() : "a file is there");
  }
  ASSIGN_OR_RETURN(auto db, OpenRocks(path));
  return std::unique_ptr<DurableMap>(
      std::make_unique<RocksDbMap>(path, std::move(db)));
}

}  // namespace conclave::registry
