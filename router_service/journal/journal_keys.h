// Keys and small values of the journal's RocksDB. Names hold no NUL, so that
// the pieces cannot run together.
//
//   d/<record id>             be64 sequence, then a serialised v1::Decision
//   o/<record id>             v1::Outcome
//   f/<record id>             v1::ExplainResponse with feedback alone
//   s/<be64 sequence>         record id; arrival order, for forgetting
//   a/<category>\0<expert>\0<version>   be64 count, bits of the sum
#ifndef CONCLAVE_ROUTER_SERVICE_JOURNAL_JOURNAL_KEYS_H_
#define CONCLAVE_ROUTER_SERVICE_JOURNAL_JOURNAL_KEYS_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "router_service/journal/journal.h"

namespace conclave::router::journal_keys {

inline std::string BigEndian(uint64_t value) {
  std::string out(8, '\0');
  for (int i = 7; i >= 0; --i, value >>= 8) {
    out[static_cast<size_t>(i)] = static_cast<char>(value & 0xff);
  }
  return out;
}
inline std::optional<uint64_t> ReadBigEndian(std::string_view bytes) {
  if (bytes.size() < 8) return std::nullopt;
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

inline std::string Decision(std::string_view id) {
  return "d/" + std::string(id);
}
inline std::string Outcome(std::string_view id) {
  return "o/" + std::string(id);
}
inline std::string Feedback(std::string_view id) {
  return "f/" + std::string(id);
}
inline std::string Sequence(uint64_t sequence) {
  return "s/" + BigEndian(sequence);
}
inline std::string Aggregate(std::string_view category, std::string_view expert,
                             uint64_t version) {
  std::string key = "a/";
  key.append(category).push_back('\0');
  key.append(expert).push_back('\0');
  return key.append(std::to_string(version));
}

inline std::string EncodeSummary(const FeedbackSummary& summary) {
  return BigEndian(static_cast<uint64_t>(summary.count)) +
         BigEndian(std::bit_cast<uint64_t>(summary.sum));
}
inline std::optional<FeedbackSummary> DecodeSummary(std::string_view bytes) {
  if (bytes.size() != 16) return std::nullopt;
  FeedbackSummary summary;
  summary.count = static_cast<int64_t>(*ReadBigEndian(bytes));
  summary.sum = std::bit_cast<double>(*ReadBigEndian(bytes.substr(8)));
  return summary;
}

}  // namespace conclave::router::journal_keys

#endif  // CONCLAVE_ROUTER_SERVICE_JOURNAL_JOURNAL_KEYS_H_
