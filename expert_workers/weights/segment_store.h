// RocksDB as the weight store uses it, behind an interface that shows none of
// its headers: large immutable segments, and small durable records.
//
//   segment = one SST file of records, built outside and ingested whole
//   meta    = key-value pairs with a synchronous log
//
// Threads: all methods may run concurrently, except that publishing and
// dropping segments must not overlap (rocksdb#11640); the caller sees to it.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_SEGMENT_STORE_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_SEGMENT_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace conclave::weights {

// Writes one segment's file. Dropped without Finish(), it leaves no file.
class SegmentWriter {
 public:
  virtual ~SegmentWriter() = default;
  // Records come in the order of their numbers, 0, 1, ..
  virtual absl::Status Append(std::span<const std::byte> record) = 0;
  // Synchronises the file and keeps it for SegmentStore::Publish.
  virtual absl::Status Finish() = 0;
  // Takes the file away again.
  virtual void Discard() = 0;
};

// Changes to `meta`, applied together or not at all.
struct MetaBatch {
  std::vector<std::pair<std::string, std::string>> puts;
  std::vector<std::string> deletes;
};

class SegmentStore {
 public:
  //   PERMISSION_DENIED, RESOURCE_EXHAUSTED (disk full), UNAVAILABLE (the
  //   store does not open; the message has RocksDB's reason)
  static absl::StatusOr<std::unique_ptr<SegmentStore>> Open(
      const std::string& path);
  // Reads a store that another process owns and may be changing. Writing
  // methods must not be called.
  static absl::StatusOr<std::unique_ptr<SegmentStore>> OpenReader(
      const std::string& path);
  virtual ~SegmentStore() = default;

  // A reader: sees from now on what the owner has published. An owner: nothing
  // to do.
  virtual absl::Status CatchUp() = 0;

  virtual absl::StatusOr<std::unique_ptr<SegmentWriter>> NewSegment(
      uint64_t segment) = 0;
  // Makes finished segments part of the store: durable, and readable.
  virtual absl::Status Publish(const std::vector<uint64_t>& segments) = 0;
  virtual absl::Status Drop(uint64_t segment) = 0;
  virtual std::vector<uint64_t> Segments() const = 0;

  // Copies a record into `out`, which has exactly its size.
  //   DATA_LOSS    no such record, another size, or a broken file
  //   UNAVAILABLE  the device failed
  // That they are the bytes which were imported is for the caller's own hash
  // to say: RocksDB's checksum lies beside them and proves less.
  virtual absl::Status Read(uint64_t segment, uint32_t chunk,
                            std::span<std::byte> out) = 0;

  virtual absl::Status ForEachMeta(
      char prefix,
      const std::function<absl::Status(std::string_view key,
                                       std::string_view value)>& use) const = 0;
  virtual absl::StatusOr<std::optional<std::string>> GetMeta(
      std::string_view key) const = 0;
  // Durable when it returns OK.
  virtual absl::Status WriteMeta(const MetaBatch& batch) = 0;
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_SEGMENT_STORE_H_
