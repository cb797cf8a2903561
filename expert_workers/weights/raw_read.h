// Bench help: what the disk gives when nobody checks or keeps anything.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_RAW_READ_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_RAW_READ_H_

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "base/check.h"

namespace conclave::weights {

// Reads every byte of the store's segments with O_DIRECT, two threads, 4 MiB at
// a time; returns how many.
inline int64_t RawRead(const std::string& directory) {
  constexpr int64_t kPiece = int64_t{4} << 20;
  struct Piece {
    int fd;
    int64_t offset;
  };
  std::vector<int> files;
  std::vector<Piece> pieces;
  int64_t bytes = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(directory)) {
    if (entry.path().extension() != ".sst") continue;
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_DIRECT);
    if (fd < 0) continue;
    files.push_back(fd);
    const auto size = static_cast<int64_t>(entry.file_size());
    bytes += size;
    for (int64_t at = 0; at < size; at += kPiece) pieces.push_back({fd, at});
  }
  std::atomic<size_t> next = 0;
  std::atomic<int64_t> got = 0;
  const auto work = [&] {
    void* buffer = std::aligned_alloc(4096, static_cast<size_t>(kPiece));
    for (size_t i = next++; i < pieces.size(); i = next++) {
      const ssize_t count = ::pread(
          pieces[i].fd, buffer, static_cast<size_t>(kPiece), pieces[i].offset);
      if (count > 0) got += count;
    }
    std::free(buffer);
  };
  std::thread other(work);
  work();
  other.join();
  for (const int fd : files) ::close(fd);
  CHECK(got == bytes, "read {} of {} bytes", got.load(), bytes);
  return bytes;
}

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_RAW_READ_H_
