#include "expert_workers/weights/directory_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace conclave::weights {
namespace {

absl::Status FromErrno(const std::string& directory, int error) {
  const std::string why = std::strerror(error);
  if (error == ENOSPC || error == EDQUOT) {
    return ResourceExhausted("{}: {}; free some space", directory, why);
  }
  return PermissionDenied(
      "{}: {}; choose a directory that can be written with --data-dir",
      directory, why);
}

}  // namespace

absl::StatusOr<std::unique_ptr<DirectoryLock>> DirectoryLock::Acquire(
    const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return FromErrno(directory, error.value());
  const std::string file = directory + "/lock";
  const int fd = ::open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return FromErrno(directory, errno);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const int why = errno;
    ::close(fd);
    if (why != EWOULDBLOCK) return FromErrno(directory, why);
    return Unavailable(
        "{} is in use by another Conclave process; stop it, talk to it with "
        "--server, or choose another --data-dir",
        directory);
  }
  return std::unique_ptr<DirectoryLock>(new DirectoryLock(fd));
}

DirectoryLock::~DirectoryLock() { ::close(fd_); }

}  // namespace conclave::weights
