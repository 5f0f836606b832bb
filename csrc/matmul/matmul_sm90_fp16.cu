// The sm90 family's float16 kernels: a file of their own, so that the types are compiled side by side.
#include "matmul_sm90.cuh"

void matmul_sm90_fp16(const MatmulArguments& x, const MatmulConfig& config, cudaStream_t stream) {
    matmul_sm90::launch<__half>(x, config, stream);
}
