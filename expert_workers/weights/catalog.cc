#include "expert_workers/weights/catalog.h"

#include <bit>
#include <cstring>

#include "expert_workers/weights/wire.h"

namespace conclave::weights {
namespace {

constexpr size_t kRecordKeyBytes = 12;
constexpr size_t kUnitKeyBytes = 17;

void AppendBigEndian(uint64_t value, int bytes, std::string* out) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    out->push_back(static_cast<char>(value >> shift));
  }
}

uint64_t ReadBigEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

}  // namespace

std::string NameKey(std::string_view name) {
  return std::string(1, kNamePrefix).append(name);
}

std::string ManifestKey(std::string_view version) {
  return std::string(1, kManifestPrefix).append(version);
}

std::string UnitKey(const Hash128& digest) {
  std::string key(1, kUnitPrefix);
  AppendBigEndian(digest.high, 8, &key);
  AppendBigEndian(digest.low, 8, &key);
  return key;
}

absl::StatusOr<Hash128> ParseUnitKey(std::string_view key) {
  if (key.size() != kUnitKeyBytes) return DataLoss("a unit's key is damaged");
  return Hash128{ReadBigEndian(key.substr(1, 8)),
                 ReadBigEndian(key.substr(9, 8))};
}

std::string Encode(const NameRecord& record) {
  WireWriter out;
  out.String(record.entry.name);
  out.String(record.entry.version);
  out.String(record.entry.architecture);
  out.I64(record.entry.total_bytes);
  out.I64(record.entry.parameters);
  out.String(record.entry.source);
  out.String(record.source_digest);
  out.Count(record.units.size());
  for (const Hash128& digest : record.units) {
    out.U64(digest.high);
    out.U64(digest.low);
  }
  return out.Take();
}

absl::StatusOr<NameRecord> DecodeName(std::string_view bytes) {
  WireReader in(bytes);
  NameRecord record;
  record.entry.name = in.String();
  record.entry.version = in.String();
  record.entry.architecture = in.String();
  record.entry.total_bytes = in.I64();
  record.entry.parameters = in.I64();
  record.entry.source = in.String();
  record.source_digest = in.String();
  record.units.resize(in.Count(16));
  for (Hash128& digest : record.units) {
    digest.high = in.U64();
    digest.low = in.U64();
  }
  if (!in.AtEnd()) return DataLoss("a model's name record is damaged");
  return record;
}

std::string Encode(const UnitRecord& record) {
  WireWriter out;
  out.U64(record.segment);
  out.U32(record.first_chunk);
  out.U32(record.num_manifests);
  out.Count(record.record_hashes.size());
  for (const uint64_t hash : record.record_hashes) out.U64(hash);
  return out.Take();
}

absl::StatusOr<UnitRecord> DecodeUnit(std::string_view bytes) {
  WireReader in(bytes);
  UnitRecord record;
  record.segment = in.U64();
  record.first_chunk = in.U32();
  record.num_manifests = in.U32();
  record.record_hashes.resize(in.Count(8));
  for (uint64_t& hash : record.record_hashes) hash = in.U64();
  if (!in.AtEnd()) return DataLoss("a unit's record is damaged");
  return record;
}

std::string RecordKey(uint64_t segment, uint32_t chunk) {
  std::string key;
  AppendBigEndian(segment, 8, &key);
  AppendBigEndian(chunk, 4, &key);
  return key;
}

absl::StatusOr<uint64_t> SegmentOfKey(std::string_view key) {
  if (key.size() != kRecordKeyBytes) {
    return DataLoss("a record's key has {} bytes", key.size());
  }
  return ReadBigEndian(key.substr(0, 8));
}

}  // namespace conclave::weights
