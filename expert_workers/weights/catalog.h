// The small records of the store's `meta` column family, as bytes.
//
//   "n" name            -> NameRecord    what people call a version
//   "m" version         -> manifest      (manifest_codec.h)
//   "u" digest          -> UnitRecord    where a unit lies
//   "s"                 -> next segment number, u64; never used twice
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_CATALOG_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_CATALOG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/status.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::weights {

struct NameRecord {
  ModelEntry entry;
  std::string source_digest;
  // What the version refers to: a removal then needs no manifest, which may
  // be damaged or of an earlier layout.
  std::vector<Hash128> units;
};

struct UnitRecord {
  uint64_t segment = 0;
  uint32_t first_chunk = 0;
  uint32_t num_manifests = 0;  // that refer to the unit; 0: to be swept
  // XXH3-64 of each record's payload. Kept away from the payload, so that a
  // record in another's place is found out too.
  std::vector<uint64_t> record_hashes;
};

inline constexpr char kNamePrefix = 'n';
inline constexpr char kManifestPrefix = 'm';
inline constexpr char kUnitPrefix = 'u';
inline constexpr std::string_view kNextSegmentKey = "s";

std::string NameKey(std::string_view name);
std::string ManifestKey(std::string_view version);
std::string UnitKey(const Hash128& digest);
absl::StatusOr<Hash128> ParseUnitKey(std::string_view key);

std::string Encode(const NameRecord& record);
std::string Encode(const UnitRecord& record);
absl::StatusOr<NameRecord> DecodeName(std::string_view bytes);
absl::StatusOr<UnitRecord> DecodeUnit(std::string_view bytes);

// A key of the `weights` column family: big-endian, so that a segment's
// records are neighbours in order.
std::string RecordKey(uint64_t segment, uint32_t chunk);
absl::StatusOr<uint64_t> SegmentOfKey(std::string_view key);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_CATALOG_H_
