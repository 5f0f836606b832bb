// The sm80 family's float32 kernels (3xTF32): a file of their own, so that the types are compiled side by side.
#include "conv_sm80.cuh"

void conv_sm80_gather_fp32(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream) {
    using namespace conv_sm80;
    if (config.rows == 128) return launch_gather<float, 128, 64, 4, 2>(x, config, stream);
    launch_gather<float, 64, 64, 2, 2>(x, config, stream);
}

void conv_sm80_weight_grad_fp32(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream) {
    using namespace conv_sm80;
    if (config.rows == 128) return launch_weight_grad<float, 128, 64, 4, 2>(x, config, stream);
    launch_weight_grad<float, 64, 64, 2, 2>(x, config, stream);
}
