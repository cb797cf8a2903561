// The one place that knows which instruction sets exist.
#include <algorithm>

#include "base/check.h"
#include "kernels/fast_ops.h"
#include "kernels/isa_kernels.h"
#include "kernels/ops.h"

namespace conclave::kernels {

std::string_view IsaName(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  CHECK(false, "instruction set {}", static_cast<int>(isa));
}

std::vector<Isa> SupportedIsas() {
  // The compiler's check includes that the system saves the registers. Every
  // processor with AVX2 has F16C, a name that clang 16's check does not know.
  std::vector<Isa> isas = {Isa::kScalar};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2")) {
    isas.push_back(Isa::kAvx2);
    if (__builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni")) {
      isas.push_back(Isa::kAvx512);
    }
  }
  return isas;
}

Isa BestIsa() {
  static const Isa kBest = SupportedIsas().back();
  return kBest;
}

const Ops& FastOps(Isa isa) {
  static const std::vector<Isa> kIsas = SupportedIsas();
  CHECK(std::find(kIsas.begin(), kIsas.end(), isa) != kIsas.end(),
        "this processor lacks {}", IsaName(isa));
  static const Ops kScalar = FastOpsOf<kScalarKernels>::Table("scalar");
  static const Ops kAvx2 = FastOpsOf<kAvx2Kernels>::Table("avx2");
  static const Ops kAvx512 = FastOpsOf<kAvx512Kernels>::Table("avx512");
  switch (isa) {
    case Isa::kScalar:
      return kScalar;
    case Isa::kAvx2:
      return kAvx2;
    case Isa::kAvx512:
      return kAvx512;
  }
  CHECK(false, "instruction set {}", static_cast<int>(isa));
}

}  // namespace conclave::kernels
