// The fast path's matrix product, value by value: the definition that the
// vector versions must meet bit for bit.
#ifndef CONCLAVE_KERNELS_MATMUL_SCALAR_H_
#define CONCLAVE_KERNELS_MATMUL_SCALAR_H_

#include "kernels/isa_kernels.h"

namespace conclave::kernels {

void MatmulScalar(const TokenView& x, const PanelView& w);

}  // namespace conclave::kernels

#endif  // CONCLAVE_KERNELS_MATMUL_SCALAR_H_
