// Where an importer reads from: a file, or memory for tests and fuzzers. Reads
// are positioned copies (pread), not a mapping: a file that shrinks under a
// mapping kills the process, here it is an error.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_BYTE_SOURCE_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_BYTE_SOURCE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace conclave::weights {

// Threads: all methods may run concurrently.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // The file's own name, for messages; never a path.
  virtual const std::string& name() const = 0;
  virtual int64_t size() const = 0;
  // Fills `out` from `offset`.
  //   INVALID_ARGUMENT  the range is not inside the source
  //   DATA_LOSS         the device failed
  virtual absl::Status ReadAt(int64_t offset,
                              std::span<std::byte> out) const = 0;
  // ABORTED when the file was written to since it was opened.
  virtual absl::Status CheckUnchanged() const = 0;
};

// NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT (not a regular file).
absl::StatusOr<std::unique_ptr<ByteSource>> OpenFile(const std::string& path);

std::unique_ptr<ByteSource> FromMemory(std::string name,
                                       std::span<const std::byte> bytes);

// The whole of a small file. INVALID_ARGUMENT when it is over `limit` bytes.
absl::StatusOr<std::string> ReadAll(const ByteSource& source, int64_t limit);

// A flat folder of files.
class Folder {
 public:
  virtual ~Folder() = default;
  // The folder's own name, for messages.
  virtual const std::string& name() const = 0;
  // `file` is one path component. NOT_FOUND when it is absent.
  virtual absl::StatusOr<std::unique_ptr<ByteSource>> Open(
      std::string_view file) const = 0;
};

std::unique_ptr<Folder> OpenFolder(const std::string& path);
// The spans must outlive the folder.
std::unique_ptr<Folder> FolderInMemory(
    std::map<std::string, std::span<const std::byte>, std::less<>> files);

// SHA-256 of one file's bytes (what `sha256sum` prints); for several, of the
// lines "digest  name\n" sorted by name. Stops early with CANCELLED once
// `*stop` is set.
absl::StatusOr<std::string> SourceDigest(
    const std::vector<std::shared_ptr<ByteSource>>& files,
    const std::atomic<bool>* stop = nullptr);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_BYTE_SOURCE_H_
