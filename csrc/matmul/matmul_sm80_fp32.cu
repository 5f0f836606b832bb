// The sm80 family's float32 kernels (3xTF32 and TF32): a file of their own, so that the types are compiled side by side.
#include "matmul_sm80.cuh"

void matmul_sm80_fp32(const MatmulArguments& x, const MatmulConfig& config, cudaStream_t stream) {
    using namespace matmul_sm80;
    constexpr DType kType = DType::float32;
    if (config.rows == 16) return launch<float, 16, 128, 1, 4>(x, config, kType, stream);
    if (config.columns == 16) return launch<float, 128, 16, 4, 1>(x, config, kType, stream);
    if (config.rows == 64) return launch<float, 64, 64, 2, 2>(x, config, kType, stream);
    launch<float, 128, 64, 4, 2>(x, config, kType, stream);
}
