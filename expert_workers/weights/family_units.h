// A source's tensors against their family: every one that it has, of the right
// shape, and no other.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_FAMILY_UNITS_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_FAMILY_UNITS_H_

#include <vector>

#include "base/status.h"
#include "expert_workers/families/family.h"
#include "expert_workers/weights/model_source.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::weights {

enum class SourceFormat { kGguf, kHuggingFace };

// Sorts `tensors` (named GGUF's way, any order) into units, each in the
// family's order, and notes what `format` holds otherwise than the engine
// computes with (interleaved rows, norms less one).
//   INVALID_ARGUMENT  a tensor is missing, or has another shape: both shapes
//   UNIMPLEMENTED     a tensor that the family does not have: dropping it in
//                     silence would change what the model says
absl::StatusOr<std::vector<UnitSource>> SortIntoUnits(
    const families::Family& family, const ModelHyperparameters& model,
    SourceFormat format, std::vector<SourceTensor> tensors);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_FAMILY_UNITS_H_
