// What one core can do at most: twelve chains of one instruction in registers,
// no memory. For benches, which give their speed as a share of it.
//
// In assembler: a compiler folds equal chains, or spills them (as it did here
// once, and the peak came out at a third).
#ifndef CONCLAVE_KERNELS_PEAKS_H_
#define CONCLAVE_KERNELS_PEAKS_H_

#include <cstdint>

#include "base/check.h"
#include "kernels/ops.h"

namespace conclave::kernels {

#define CONCLAVE_PEAK_LOOP(count, body)                                     \
  asm volatile(                                                             \
      "vzeroall\n"                                                          \
      "1:\n"                                                                \
      ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n" body                 \
      ".endr\n"                                                             \
      "dec %0\n"                                                            \
      "jnz 1b\n"                                                            \
      "vzeroupper\n"                                                        \
      : "+r"(count)::"cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",  \
        "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", \
        "xmm14", "xmm15")

// Each runs once and returns how many operations it did; a multiply and an add
// are two. `isa` is kAvx2 or kAvx512, and supported.

inline double RunFp32Peak(Isa isa) {
  int64_t rounds = 10000;
  const double operations = 12 * 2 * static_cast<double>(rounds);
  if (isa == Isa::kAvx512) {
    CONCLAVE_PEAK_LOOP(rounds, "vfmadd231ps %%zmm12, %%zmm13, %%zmm\\r\n");
    return 16 * operations;
  }
  CHECK(isa == Isa::kAvx2, "no peak of {}", IsaName(isa));
  CONCLAVE_PEAK_LOOP(rounds, "vfmadd231ps %%ymm12, %%ymm13, %%ymm\\r\n");
  return 8 * operations;
}

// vpdpbusd; without it vpmaddubsw and vpaddw, which is more than exact sums of
// eight-bit products can use: they need vpmaddwd too.
inline double RunInt8Peak(Isa isa) {
  int64_t rounds = 10000;
  const double operations = 12 * 2 * static_cast<double>(rounds);
  if (isa == Isa::kAvx512) {
    CONCLAVE_PEAK_LOOP(rounds, "vpdpbusd %%zmm12, %%zmm13, %%zmm\\r\n");
    return 64 * operations;
  }
  CHECK(isa == Isa::kAvx2, "no peak of {}", IsaName(isa));
  CONCLAVE_PEAK_LOOP(rounds,
                     "vpmaddubsw %%ymm12, %%ymm13, %%ymm14\n"
                     "vpaddw %%ymm14, %%ymm\\r, %%ymm\\r\n");
  return 32 * operations;
}

#undef CONCLAVE_PEAK_LOOP

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_PEAKS_H_
