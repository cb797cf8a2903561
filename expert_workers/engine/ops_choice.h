// Which of the kernels' paths an engine or an encoder runs on.
#ifndef CONCLAVE_EXPERT_WORKERS_ENGINE_OPS_CHOICE_H_
#define CONCLAVE_EXPERT_WORKERS_ENGINE_OPS_CHOICE_H_

#include <string_view>

#include "base/status.h"
#include "kernels/ops.h"

namespace conclave::engine {

// The fp32 oracle, or the fast path of instruction set `isa`: "" (the best
// there is), "scalar", "avx2", "avx512".
//   INVALID_ARGUMENT  this processor has no such set; lists those it has
absl::StatusOr<const kernels::Ops*> ChooseOps(bool reference_path,
                                              std::string_view isa);

}  // namespace conclave::engine

#endif  // CONCLAVE_EXPERT_WORKERS_ENGINE_OPS_CHOICE_H_
