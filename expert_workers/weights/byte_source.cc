#include "expert_workers/weights/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/units.h"
#include "expert_workers/weights/sha256.h"

namespace conclave::weights {
namespace {

// The last component, whatever slashes end the path.
std::string BaseName(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  if (slash != std::string_view::npos && path.size() > 1) {
    path.remove_prefix(slash + 1);
  }
  return std::string(path);
}

absl::Status CheckRange(const ByteSource& source, int64_t offset,
                        size_t bytes) {
  const int64_t size = source.size();
  if (offset < 0 || offset > size ||
      bytes > static_cast<uint64_t>(size - offset)) {
    return InvalidArgument(
        "{}: {} bytes at offset {} are past the end ({} bytes); the file is "
        "truncated",
        source.name(), bytes, offset, size);
  }
  return absl::OkStatus();
}

class FileSource final : public ByteSource {
 public:
  FileSource(int fd, std::string name, const struct stat& opened)
      : fd_(fd), name_(std::move(name)), opened_(opened) {}
  ~FileSource() override { ::close(fd_); }
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  const std::string& name() const override { return name_; }
  int64_t size() const override { return opened_.st_size; }

  absl::Status ReadAt(int64_t offset, std::span<std::byte> out) const override {
    RETURN_IF_ERROR(CheckRange(*this, offset, out.size()));
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t n = ::pread(fd_, out.data() + done, out.size() - done,
                                offset + static_cast<int64_t>(done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        return DataLoss("{}: reading at offset {}: {}", name_,
                        offset + static_cast<int64_t>(done),
                        std::strerror(errno));
      }
      if (n == 0) return Aborted("{} became shorter while it was read", name_);
      done += static_cast<size_t>(n);
    }
    return absl::OkStatus();
  }

  absl::Status CheckUnchanged() const override {
    struct stat now {};
    if (::fstat(fd_, &now) != 0 || now.st_size != opened_.st_size ||
        now.st_mtim.tv_sec != opened_.st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != opened_.st_mtim.tv_nsec) {
      return Aborted("{} changed while it was read; import it again", name_);
    }
    return absl::OkStatus();
  }

 private:
  const int fd_;
  const std::string name_;
  const struct stat opened_;
};

class MemorySource final : public ByteSource {
 public:
  MemorySource(std::string name, std::span<const std::byte> bytes)
      : name_(std::move(name)), bytes_(bytes) {}
  const std::string& name() const override { return name_; }
  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }
  absl::Status ReadAt(int64_t offset, std::span<std::byte> out) const override {
    RETURN_IF_ERROR(CheckRange(*this, offset, out.size()));
    if (!out.empty()) {
      std::memcpy(out.data(), bytes_.data() + offset, out.size());
    }
    return absl::OkStatus();
  }
  absl::Status CheckUnchanged() const override { return absl::OkStatus(); }

 private:
  const std::string name_;
  const std::span<const std::byte> bytes_;
};

absl::Status CheckComponent(std::string_view file) {
  if (file.empty() || file == "." || file == ".." ||
      file.find('/') != std::string_view::npos ||
      file.find('\0') != std::string_view::npos) {
    return InvalidArgument("\"{}\" is not the name of a file in the folder",
                           file);
  }
  return absl::OkStatus();
}

class DiskFolder final : public Folder {
 public:
  explicit DiskFolder(std::string path)
      : path_(std::move(path)), name_(BaseName(path_)) {}
  const std::string& name() const override { return name_; }
  absl::StatusOr<std::unique_ptr<ByteSource>> Open(
      std::string_view file) const override {
    RETURN_IF_ERROR(CheckComponent(file));
    return OpenFile(path_ + "/" + std::string(file));
  }

 private:
  const std::string path_;
  const std::string name_;
};

class MemoryFolder final : public Folder {
 public:
  explicit MemoryFolder(
      std::map<std::string, std::span<const std::byte>, std::less<>> files)
      : files_(std::move(files)) {}
  const std::string& name() const override { return name_; }
  absl::StatusOr<std::unique_ptr<ByteSource>> Open(
      std::string_view file) const override {
    RETURN_IF_ERROR(CheckComponent(file));
    const auto it = files_.find(file);
    if (it == files_.end()) return NotFound("{}: no such file", file);
    return FromMemory(it->first, it->second);
  }

 private:
  const std::string name_ = "memory";
  const std::map<std::string, std::span<const std::byte>, std::less<>> files_;
};

absl::StatusOr<std::string> DigestOf(const ByteSource& file,
                                     const std::atomic<bool>* stop) {
  Sha256Stream digest;
  // 1 MiB: long enough to amortise the call, short enough to stay in cache
  // between the read and the hash.
  std::vector<std::byte> buffer(static_cast<size_t>(kMiB));
  for (int64_t offset = 0; offset < file.size();) {
    if (stop != nullptr && stop->load(std::memory_order_relaxed)) {
      return Cancelled("{}: no longer wanted", file.name());
    }
    const std::span<std::byte> piece(
        buffer.data(),
        static_cast<size_t>(std::min<int64_t>(kMiB, file.size() - offset)));
    RETURN_IF_ERROR(file.ReadAt(offset, piece));
    digest.Update(piece);
    offset += static_cast<int64_t>(piece.size());
  }
  return digest.Hex();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ByteSource>> OpenFile(const std::string& path) {
  std::string name = BaseName(path);
  // O_NONBLOCK: a FIFO is refused below, not waited for.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    const std::string why = std::strerror(error);
    if (error == ENOENT || error == ENOTDIR) {
      return NotFound("{}: no such file", name);
    }
    if (error == EACCES || error == EPERM) {
      return PermissionDenied("{}: {}", name, why);
    }
    return InvalidArgument("{}: cannot be opened: {}", name, why);
  }
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return InvalidArgument("{}: not a regular file", name);
  }
  return std::unique_ptr<ByteSource>(
      std::make_unique<FileSource>(fd, std::move(name), info));
}

std::unique_ptr<ByteSource> FromMemory(std::string name,
                                       std::span<const std::byte> bytes) {
  return std::make_unique<MemorySource>(std::move(name), bytes);
}

absl::StatusOr<std::string> ReadAll(const ByteSource& source, int64_t limit) {
  if (source.size() > limit) {
    return InvalidArgument("{} has {} bytes; the limit is {}", source.name(),
                           source.size(), limit);
  }
  std::string text(static_cast<size_t>(source.size()), '\0');
  RETURN_IF_ERROR(source.ReadAt(0, std::as_writable_bytes(std::span(text))));
  return text;
}

std::unique_ptr<Folder> OpenFolder(const std::string& path) {
  return std::make_unique<DiskFolder>(path);
}

std::unique_ptr<Folder> FolderInMemory(
    std::map<std::string, std::span<const std::byte>, std::less<>> files) {
  return std::make_unique<MemoryFolder>(std::move(files));
}

absl::StatusOr<std::string> SourceDigest(
    const std::vector<std::shared_ptr<ByteSource>>& files,
    const std::atomic<bool>* stop) {
  if (files.size() == 1) return DigestOf(*files[0], stop);
  std::map<std::string, std::string> digests;
  for (const auto& file : files) {
    ASSIGN_OR_RETURN(digests[file->name()], DigestOf(*file, stop));
  }
  Sha256Stream all;
  for (const auto& [name, digest] : digests) {
    const std::string line = digest + "  " + name + "\n";
    all.Update(std::as_bytes(std::span(line)));
  }
  return all.Hex();
}

}  // namespace conclave::weights
