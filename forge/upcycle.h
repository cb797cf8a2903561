// Sparse upcycling (Komatsuzaki et al., arXiv 2212.05055): a dense model
// becomes a mixture whose experts are copies of its feed-forward half, behind a
// fresh gate. The weights of the chosen experts sum to 1, so that at step 0
//   sum_j w_j F(x) = F(x)
// and the child answers as its parent does, whatever the gate says. Copies are
// one unit of the store: on disk the child adds its gates to its parent.
#ifndef CONCLAVE_FORGE_UPCYCLE_H_
#define CONCLAVE_FORGE_UPCYCLE_H_

#include <cstdint>
#include <string>

#include "base/status.h"
#include "expert_workers/weights/weight_store.h"

namespace conclave::forge {

struct UpcycleOptions {
  int64_t num_experts = 8;        // 2..256
  int64_t experts_per_token = 2;  // 1..num_experts
  // Of the gates' values, which are uniform. 0: every token goes to the first
  // experts, with equal weights, which for top-1 and top-2 gives the parent's
  // very bits. Training wants 0.02 or so; sums of weights then round.
  float gate_deviation = 0;
  uint64_t seed = 0;
};

//   UNIMPLEMENTED        no family of mixtures has the parent's attention
//   FAILED_PRECONDITION  the parent is a mixture already, or was stored before
//                        feed-forward halves were units of their own
//   INVALID_ARGUMENT     numbers out of range
absl::StatusOr<weights::DerivedModel> Upcycle(
    const weights::ModelManifest& parent, const std::string& parent_name,
    const UpcycleOptions& options);

}  // namespace conclave::forge

#endif  // CONCLAVE_FORGE_UPCYCLE_H_
