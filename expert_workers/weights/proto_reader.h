// Reads protobuf's wire format, field by field, from strangers: for the one
// message that importers meet (SentencePiece's ModelProto), whose schema no
// package here brings.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_PROTO_READER_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_PROTO_READER_H_

#include <cstdint>
#include <string_view>

namespace conclave::weights {

class ProtoReader {
 public:
  explicit ProtoReader(std::string_view message) : rest_(message) {}

  // The next field; false at the end, or when what follows is malformed (then
  // ok() is false).
  bool Next();

  bool ok() const { return ok_; }
  uint32_t field() const { return field_; }
  // Of the current field; 0 or "" when it is of another wire type.
  uint64_t varint() const { return varint_; }
  float fixed32() const { return fixed32_; }
  std::string_view bytes() const { return bytes_; }

 private:
  bool ReadVarint(uint64_t* value);
  bool Take(size_t count, std::string_view* taken);

  std::string_view rest_;
  bool ok_ = true;
  uint32_t field_ = 0;
  uint64_t varint_ = 0;
  float fixed32_ = 0;
  std::string_view bytes_;
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_PROTO_READER_H_
