// Bytes as the store writes them: little-endian fixed-width integers, strings
// and lists with a 32-bit length in front. The reader treats every length as
// hostile: after the first failure it yields zeros and ok() stays false.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_WIRE_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_WIRE_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace conclave::weights {

static_assert(std::endian::native == std::endian::little,
              "integers are copied as they lie in memory");

class WireWriter {
 public:
  void U8(uint8_t v) { Raw(&v, sizeof v); }
  void U32(uint32_t v) { Raw(&v, sizeof v); }
  void U64(uint64_t v) { Raw(&v, sizeof v); }
  void I32(int32_t v) { Raw(&v, sizeof v); }
  void I64(int64_t v) { Raw(&v, sizeof v); }
  void Bool(bool v) { U8(v ? 1 : 0); }
  void F32(float v) { Raw(&v, sizeof v); }
  void String(std::string_view v) {
    U32(static_cast<uint32_t>(v.size()));
    bytes_.append(v);
  }
  // The length of a list that follows.
  void Count(size_t n) { U32(static_cast<uint32_t>(n)); }

  const std::string& bytes() const { return bytes_; }
  std::string Take() { return std::move(bytes_); }

 private:
  void Raw(const void* data, size_t n) {
    bytes_.append(static_cast<const char*>(data), n);
  }
  std::string bytes_;
};

class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : rest_(bytes) {}

  uint8_t U8() { return Fixed<uint8_t>(); }
  uint32_t U32() { return Fixed<uint32_t>(); }
  uint64_t U64() { return Fixed<uint64_t>(); }
  int32_t I32() { return Fixed<int32_t>(); }
  int64_t I64() { return Fixed<int64_t>(); }
  bool Bool() { return Fixed<uint8_t>() != 0; }
  float F32() { return Fixed<float>(); }
  std::string String() {
    const uint32_t size = U32();
    if (!ok_ || size > rest_.size()) {
      Fail();
      return "";
    }
    std::string value(rest_.substr(0, size));
    rest_.remove_prefix(size);
    return value;
  }
  // A list's length; 0 and not ok() when that many elements of at least
  // `min_element_bytes` cannot follow, so that a lie never reserves memory.
  size_t Count(size_t min_element_bytes) {
    const uint32_t count = U32();
    if (!ok_ || count > rest_.size() / min_element_bytes) {
      Fail();
      return 0;
    }
    return count;
  }

  bool ok() const { return ok_; }
  bool AtEnd() const { return ok_ && rest_.empty(); }

 private:
  void Fail() {
    ok_ = false;
    rest_ = {};
  }
  template <typename T>
  T Fixed() {
    T value{};
    if (rest_.size() < sizeof value) {
      Fail();
      return value;
    }
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_.remove_prefix(sizeof value);
    return value;
  }

  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_WIRE_H_
