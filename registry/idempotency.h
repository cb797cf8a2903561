// The answers to calls that were made with an idempotency key: the same key
// and request get the first answer again. Bounded: the oldest is forgotten.
// In memory; the owner stores what Add and Evict say with the change itself.
//
// Threads: none of its own; the owner serialises.
#ifndef CONCLAVE_REGISTRY_IDEMPOTENCY_H_
#define CONCLAVE_REGISTRY_IDEMPOTENCY_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/status.h"

namespace conclave::registry {

// A call's identity: what was asked, under which key.
struct CallId {
  std::string key;     // empty: not remembered
  std::string digest;  // SHA-256 of method and request
};
CallId MakeCallId(std::string_view key, std::string_view method,
                  std::string_view request);

struct RememberedCall {
  CallId id;
  std::string answer;
};

// The stored form.
std::string Encode(const RememberedCall& call);
absl::StatusOr<RememberedCall> DecodeCall(std::string_view bytes);

class IdempotencyTable {
 public:
  explicit IdempotencyTable(size_t capacity) : capacity_(capacity) {}

  // The answer given before, or nothing when this call is new.
  // INVALID_ARGUMENT: the key was used for another request.
  absl::StatusOr<std::optional<std::string>> Find(const CallId& id) const;

  // Which sequence number the next call gets.
  uint64_t next_sequence() const { return next_sequence_; }
  // The sequence that has to go to make room for one more, if any.
  std::optional<uint64_t> Oldest() const;

  // Remembers; forgets the oldest ones beyond the capacity.
  void Add(uint64_t sequence, RememberedCall call);

 private:
  const size_t capacity_;
  uint64_t next_sequence_ = 1;
  std::map<uint64_t, RememberedCall> calls_;
  std::unordered_map<std::string, uint64_t> by_key_;
};

}  // namespace conclave::registry

#endif  // CONCLAVE_REGISTRY_IDEMPOTENCY_H_
