#include "expert_workers/weights/proto_reader.h"

#include <cstring>

namespace conclave::weights {

bool ProtoReader::Next() {
  field_ = 0;
  varint_ = 0;
  fixed32_ = 0;
  bytes_ = {};
  if (!ok_ || rest_.empty()) return false;
  uint64_t key = 0;
  ok_ = ReadVarint(&key) && (key >> 3) != 0 && (key >> 3) < (1u << 29);
  if (!ok_) return false;
  field_ = static_cast<uint32_t>(key >> 3);
  std::string_view raw;
  switch (key & 7) {
    case 0:
      ok_ = ReadVarint(&varint_);
      break;
    case 1:
      ok_ = Take(8, &raw);
      break;
    case 2: {
      uint64_t size = 0;
      ok_ = ReadVarint(&size) && Take(size, &bytes_);
      break;
    }
    case 5:
      ok_ = Take(4, &raw);
      // The format is little-endian, and so is every machine we run on.
      if (ok_) std::memcpy(&fixed32_, raw.data(), 4);
      break;
    default:  // groups: nobody has written them for twenty years
      ok_ = false;
  }
  return ok_;
}

bool ProtoReader::ReadVarint(uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (rest_.empty()) return false;
    const auto byte = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    *value |= uint64_t{byte & 0x7Fu} << shift;
    if ((byte & 0x80) == 0) return true;
  }
  return false;
}

bool ProtoReader::Take(size_t count, std::string_view* taken) {
  if (count > rest_.size()) return false;
  *taken = rest_.substr(0, count);
  rest_.remove_prefix(count);
  return true;
}

}  // namespace conclave::weights
