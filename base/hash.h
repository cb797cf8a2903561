// The two digests Conclave uses: XXH3 for speed (bit rot, feature hashing),
// SHA-256 for identity (version ids, API keys).
#ifndef CONCLAVE_BASE_HASH_H_
#define CONCLAVE_BASE_HASH_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace conclave {

struct Hash128 {
  uint64_t high = 0;
  uint64_t low = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
  friend auto operator<=>(const Hash128&, const Hash128&) = default;
  // 32 lower-case hexadecimal digits.
  std::string Hex() const;
};

uint64_t Xxh3_64(std::span<const std::byte> bytes, uint64_t seed = 0);
uint64_t Xxh3_64(std::string_view bytes, uint64_t seed = 0);
Hash128 Xxh3_128(std::span<const std::byte> bytes);

// 64 lower-case hexadecimal digits.
std::string Sha256Hex(std::string_view bytes);

// XXH3-128 over pieces; Digest() may be called once.
class Xxh3Stream {
 public:
  Xxh3Stream();
  ~Xxh3Stream();
  Xxh3Stream(const Xxh3Stream&) = delete;
  Xxh3Stream& operator=(const Xxh3Stream&) = delete;
  void Update(std::span<const std::byte> bytes);
  Hash128 Digest() const;

 private:
  void* state_;
};

}  // namespace conclave

#endif  // CONCLAVE_BASE_HASH_H_
