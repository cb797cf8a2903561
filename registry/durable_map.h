// A small ordered map of strings on disk (RocksDB inside): a batch is applied
// whole or not at all, and once Apply has returned OK it survives kill -9.
//
// Threads: Apply may run concurrently with nothing else; the owner serialises.
#ifndef CONCLAVE_REGISTRY_DURABLE_MAP_H_
#define CONCLAVE_REGISTRY_DURABLE_MAP_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace conclave::registry {

class DurableMap {
 public:
  struct Write {
    std::string key;
    std::optional<std::string> value;  // nothing: the key is deleted
  };

  // Makes the directory when it is absent.
  //   UNAVAILABLE         another process (or object) holds it
  //   PERMISSION_DENIED   not writable
  //   RESOURCE_EXHAUSTED  disk full
  //   DATA_LOSS           what is there is damaged
  static absl::StatusOr<std::unique_ptr<DurableMap>> Open(
      const std::string& path);
  virtual ~DurableMap() = default;

  // Calls `visit` for every pair in key order, until it returns an error.
  virtual absl::Status ForEach(
      const std::function<absl::Status(std::string_view key,
                                       std::string_view value)>& visit) = 0;
  // Atomic and synchronous. After an error nothing was acknowledged, and the
  // next Apply tries again: a disk that was full may have room by then.
  virtual absl::Status Apply(const std::vector<Write>& writes) = 0;
};

}  // namespace conclave::registry

#endif  // CONCLAVE_REGISTRY_DURABLE_MAP_H_
