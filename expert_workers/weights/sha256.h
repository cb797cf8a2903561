// SHA-256 over pieces, for files that do not fit in memory.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_SHA256_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_SHA256_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace conclave::weights {

// Finish() or Hex() ends the stream; call one of them once.
class Sha256Stream {
 public:
  Sha256Stream();
  ~Sha256Stream();
  Sha256Stream(const Sha256Stream&) = delete;
  Sha256Stream& operator=(const Sha256Stream&) = delete;

  void Update(std::span<const std::byte> bytes);
  std::array<uint8_t, 32> Finish();
  // 64 lower-case hexadecimal digits.
  std::string Hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_SHA256_H_
