// The sm80 family's bfloat16 kernels: a file of their own, so that the types are compiled side by side.
#include "matmul_sm80.cuh"

void matmul_sm80_bf16(const MatmulArguments& x, const MatmulConfig& config, cudaStream_t stream) {
    using namespace matmul_sm80;
    constexpr DType kType = DType::bfloat16;
    if (config.columns == 256) return launch<__nv_bfloat16, 128, 256, 2, 4>(x, config, kType, stream);
    if (config.rows == 16) return launch<__nv_bfloat16, 16, 128, 1, 4>(x, config, kType, stream);
    if (config.columns == 16) return launch<__nv_bfloat16, 128, 16, 4, 1>(x, config, kType, stream);
    if (config.rows == 64) return launch<__nv_bfloat16, 64, 64, 2, 2>(x, config, kType, stream);
    launch<__nv_bfloat16, 128, 128, 2, 4>(x, config, kType, stream);
}
