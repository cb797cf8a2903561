// What a gate may look at, and so where it may serve.
#ifndef CONCLAVE_KERNELS_GATE_CAPS_H_
#define CONCLAVE_KERNELS_GATE_CAPS_H_

#include "kernels/gate/gate_config.h"

namespace conclave::kernels {

struct GateCaps {
  // Whose tokens may change a token's plan.
  Scope scope = Scope::kToken;
  // A token's plan depends on no later token.
  bool causal = true;
  // The plan carries `pre`.
  bool has_precompute = false;
};

GateCaps CapsOf(const GateConfig& config);

// Whether a causal decoder may use it. A step of a decoder holds tokens of many
// requests and only part of each text, so a plan has to be a function of the
// token alone.
//   FAILED_PRECONDITION  why not, and what to use instead
absl::Status CheckDecoding(const GateConfig& config);
// Whether an encoder may, which sees whole texts: within one request.
absl::Status CheckEncoding(const GateConfig& config);

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_CAPS_H_
