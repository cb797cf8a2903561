// Chance by counter: the same (seed, answer, position) gives the same number,
// whoever asked before.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_RANDOM_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_RANDOM_H_

#include <cstdint>

namespace conclave::engine {

// SplitMix64's output function: a bijection that mixes every bit into every
// other.
inline uint64_t MixBits(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Uniform in [0, 1), 53 bits.
inline double RandomUnit(uint64_t seed, uint32_t answer, uint64_t position) {
  const uint64_t bits = MixBits(MixBits(MixBits(seed) ^ answer) ^ position);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_RANDOM_H_
