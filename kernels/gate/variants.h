// The published gates, each a row of configuration keys. What depends on a
// model's size (experts.n, and k where the paper has no one value) is added by
// whoever uses a row.
#ifndef CONCLAVE_KERNELS_GATE_VARIANTS_H_
#define CONCLAVE_KERNELS_GATE_VARIANTS_H_

#include <span>
#include <string_view>

#include "kernels/gate/gate_config.h"

namespace conclave::kernels {

struct GateVariant {
  std::string_view name;
  std::string_view paper;  // title or arXiv id
  std::string_view keys;   // ParseGateKeys
};

std::span<const GateVariant> GateVariants();

// The row `name` with `more` keys on top, validated.
//   NOT_FOUND         no such row; the message lists them
//   INVALID_ARGUMENT  see ParseGateConfig
absl::StatusOr<GateConfig> GateOfVariant(std::string_view name,
                                         std::string_view more);

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_GATE_VARIANTS_H_
