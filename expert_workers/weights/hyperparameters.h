// What both formats' configurations have in common: windows laid out over
// layers, and the ranges that a model's numbers are in.
#ifndef CONCLAVE_EXPERT_WORKERS_WEIGHTS_HYPERPARAMETERS_H_
#define CONCLAVE_EXPERT_WORKERS_WEIGHTS_HYPERPARAMETERS_H_

#include <cstdint>

#include "base/status.h"
#include "expert_workers/families/family.h"
#include "expert_workers/weights/model_spec.h"

namespace conclave::weights {

// Gives every layer of `model` its window.
//   first  kLateLayers: the first layer that has the window
//   every  kPattern: each every-th layer sees all
//   INVALID_ARGUMENT  window, first or every is zero, negative or absurd
absl::Status SetWindows(families::Windows windows, int64_t window,
                        int64_t first, int64_t every,
                        ModelHyperparameters* model);

// Refuses hyperparameters that no model has: everything later may multiply
// them without overflow.
//   INVALID_ARGUMENT  names the value and the range
//   UNIMPLEMENTED     a decoder's shapes are beyond the kernels
absl::Status CheckHyperparameters(const families::Family& family,
                                  const ModelHyperparameters& model);

}  // namespace conclave::weights

#endif  // CONCLAVE_EXPERT_WORKERS_WEIGHTS_HYPERPARAMETERS_H_
