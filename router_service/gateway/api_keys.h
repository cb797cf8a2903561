// API keys: who may call what. Keys are hashed at rest.
//
// The file has one key a line; `#` starts a comment:
//   sha256:<64 hex digits> NAME [SCOPE[,SCOPE]...]
// NAME (the grammar of base/names.h) is the tenant that requests carry. The
// scopes are inference, feedback and metrics; none given means all.
// Plain SHA-256 suffices because keys are made of 256 random bits, not chosen
// by people: MakeKey makes one.
#ifndef CONCLAVE_ROUTER_SERVICE_GATEWAY_API_KEYS_H_
#define CONCLAVE_ROUTER_SERVICE_GATEWAY_API_KEYS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace conclave::gateway {

enum class Scope : uint8_t { kInference = 1, kFeedback = 2, kMetrics = 4 };

// Immutable once loaded.
class ApiKeys {
 public:
  // INVALID_ARGUMENT naming the line (never the key), or when there is none.
  static absl::StatusOr<ApiKeys> Parse(std::string_view text);
  // NOT_FOUND, INVALID_ARGUMENT as above.
  static absl::StatusOr<ApiKeys> Load(const std::string& path);

  // The key's name, for an `authorization` header of "Bearer KEY". Takes the
  // same time for every wrong key.
  //   UNAUTHENTICATED    none, or not a known one
  //   PERMISSION_DENIED  known, but without `scope`
  absl::StatusOr<std::string> Check(std::string_view authorization,
                                    Scope scope) const;

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::string digest;  // 64 lower-case hexadecimal digits
    std::string name;
    uint8_t scopes = 0;
  };
  std::vector<Entry> entries_;
};

// A fresh key, "ck-" and 43 random characters; UNAVAILABLE when the system
// has no randomness.
absl::StatusOr<std::string> MakeKey();
// The line for the file.
std::string KeyLine(std::string_view key, std::string_view name);

}  // namespace conclave::gateway

#endif  // CONCLAVE_ROUTER_SERVICE_GATEWAY_API_KEYS_H_
