// How much one registry holds. Chosen so that any expert fits one RPC message
// (16 MiB) and the whole state fits memory many times over.
#ifndef CONCLAVE_REGISTRY_LIMITS_H_
#define CONCLAVE_REGISTRY_LIMITS_H_

#include <absl/time/time.h>

#include <cstddef>

namespace conclave::registry {

inline constexpr size_t kMaxExperts = 10'000;
inline constexpr size_t kMaxModels = 10'000;
inline constexpr size_t kMaxAliases = 10'000;
inline constexpr size_t kMaxWorkers = 1'000;
inline constexpr size_t kMaxCategories = 64;        // of one expert
inline constexpr size_t kMaxSamples = 10'000;       // of one expert
inline constexpr size_t kMaxSampleBytes = 8 << 10;  // of one text
inline constexpr size_t kMaxPromptBytes = 64 << 10;
// Samples and prompt of one expert together.
inline constexpr size_t kMaxExpertBytes = 12 << 20;
inline constexpr size_t kMaxUrlBytes = 2048;
inline constexpr size_t kMaxRemoteModelBytes = 256;
inline constexpr size_t kMaxAddressBytes = 256;
inline constexpr size_t kMaxWorkerModels = 1'024;
inline constexpr size_t kMaxIdempotencyKeyBytes = 256;
inline constexpr int kMaxBaseDepth = 4;  // expert -> base -> base ..

// A lease shorter than this would end between two heartbeats of a busy worker;
// one longer would hide a dead one.
inline constexpr absl::Duration kMinLease = absl::Milliseconds(100);
inline constexpr absl::Duration kMaxLease = absl::Minutes(10);

}  // namespace conclave::registry

#endif  // CONCLAVE_REGISTRY_LIMITS_H_
