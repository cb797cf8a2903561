#include "kernels/attention_kernel.h"
#include "kernels/isa_kernels.h"
#include "kernels/matmul_scalar.h"
#include "kernels/simd_scalar.h"
#include "kernels/vector_ops.h"

namespace conclave::kernels {

const IsaKernels kScalarKernels = {
    .quantize = VectorOps<SimdScalar>::Quantize,
    .matmul = MatmulScalar,
    .rms_norm = VectorOps<SimdScalar>::RmsNorm,
    .layer_norm = VectorOps<SimdScalar>::LayerNorm,
    .add = VectorOps<SimdScalar>::Add,
    .silu_mul = VectorOps<SimdScalar>::SiluMul,
    .gelu_tanh_mul = VectorOps<SimdScalar>::GeluTanhMul,
    .gelu = VectorOps<SimdScalar>::Gelu,
    .rope = VectorOps<SimdScalar>::Rope,
    .to_half = VectorOps<SimdScalar>::ToHalf,
    .attend = AttentionKernel<SimdScalar>::Attend,
};

}  // namespace conclave::kernels
