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
  std::vector<Isa> isas = {Isa::kScalar};
  return isas;
}

Isa BestIsa() {
  static const Isa kBest = SupportedIsas().back();
  return kBest;
}

const Ops& FastOps(Isa isa) {
  const std::vector<Isa> isas = SupportedIsas();
  CHECK(std::find(isas.begin(), isas.end(), isa) != isas.end(),
        "this processor lacks {}", IsaName(isa));
  static const Ops kScalar = FastOpsOf<kScalarKernels>::Table("scalar");
  return kScalar;
}

}  // namespace conclave::kernels
