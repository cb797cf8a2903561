#include "registry/idempotency.h"

#include "base/hash.h"

namespace conclave::registry {
namespace {

constexpr size_t kDigestBytes = 64;  // hexadecimal SHA-256

}  // namespace

CallId MakeCallId(std::string_view key, std::string_view method,
                  std::string_view request) {
  if (key.empty()) return {};
  std::string all(method);
  all += '\0';
  all += request;
  return {std::string(key), Sha256Hex(all)};
}

// digest, one byte of key length less one, key, answer
std::string Encode(const RememberedCall& call) {
  std::string bytes = call.id.digest;
  bytes += static_cast<char>(call.id.key.size() - 1);
  bytes += call.id.key;
  bytes += call.answer;
  return bytes;
}

absl::StatusOr<RememberedCall> DecodeCall(std::string_view bytes) {
  if (bytes.size() > kDigestBytes) {
    const size_t length = static_cast<uint8_t>(bytes[kDigestBytes]) + size_t{1};
    if (bytes.size() - kDigestBytes - 1 >= length) {
      RememberedCall call;
      call.id.digest = bytes.substr(0, kDigestBytes);
      call.id.key = bytes.substr(kDigestBytes + 1, length);
      call.answer = bytes.substr(kDigestBytes + 1 + length);
      return call;
    }
  }
  return DataLoss("an idempotency record is cut short");
}

absl::StatusOr<std::optional<std::string>> IdempotencyTable::Find(
    const CallId& id) const {
  if (id.key.empty()) return std::nullopt;
  const auto found = by_key_.find(id.key);
  if (found == by_key_.end()) return std::nullopt;
  const RememberedCall& call = calls_.at(found->second);
  if (call.id.digest != id.digest) {
    return InvalidArgument(
        "idempotency_key was used for another request; use a new key for a "
        "new request");
  }
  return call.answer;
}

std::optional<uint64_t> IdempotencyTable::Oldest() const {
  if (calls_.size() < capacity_ || calls_.empty()) return std::nullopt;
  return calls_.begin()->first;
}

void IdempotencyTable::Add(uint64_t sequence, RememberedCall call) {
  by_key_[call.id.key] = sequence;
  calls_[sequence] = std::move(call);
  next_sequence_ = sequence + 1;
  while (calls_.size() > capacity_) {
    by_key_.erase(calls_.begin()->second.id.key);
    calls_.erase(calls_.begin());
  }
}

}  // namespace conclave::registry
