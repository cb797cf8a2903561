// One process, one store: an flock on a file in the directory. The kernel
// lets go of it when the process ends, however it ends.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_DIRECTORY_LOCK_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_DIRECTORY_LOCK_H_

#include <memory>
#include <string>

#include "base/status.h"

namespace conclave::weights {

class DirectoryLock {
 public:
  // Makes `directory` where it is absent.
  //   UNAVAILABLE         another process (or store) holds it; the message
  //                       names the directory and what to do
  //   PERMISSION_DENIED   it cannot be made or written
  //   RESOURCE_EXHAUSTED  the disk is full
  static absl::StatusOr<std::unique_ptr<DirectoryLock>> Acquire(
      const std::string& directory);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  explicit DirectoryLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_DIRECTORY_LOCK_H_
