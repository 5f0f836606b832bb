// The sm90 family's bfloat16 kernels: a file of their own, so that the types are compiled side by side.
#include "matmul_sm90.cuh"

void matmul_sm90_bf16(const MatmulArguments& x, const MatmulConfig& config, cudaStream_t stream) {
    matmul_sm90::launch<__nv_bfloat16>(x, config, stream);
}
