#include "expert_workers/engine/ops_choice.h"

#include <fmt/core.h>

#include <string>

namespace conclave::engine {

absl::StatusOr<const kernels::Ops*> ChooseOps(bool reference_path,
                                              std::string_view isa) {
  if (reference_path) return &kernels::ReferenceOps();
  if (isa.empty()) return &kernels::FastOps();
  std::string known;
  for (const kernels::Isa candidate : kernels::SupportedIsas()) {
    if (kernels::IsaName(candidate) == isa) return &kernels::FastOps(candidate);
    known += fmt::format(" {}", kernels::IsaName(candidate));
  }
  return InvalidArgument("isa is \"{}\"; this processor has{}", isa, known);
}

}  // namespace conclave::engine
