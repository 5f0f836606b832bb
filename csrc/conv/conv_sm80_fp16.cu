// The sm80 family's float16 kernels: a file of their own, so that the types are compiled side by side.
#include "conv_sm80.cuh"

void conv_sm80_gather_fp16(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream) {
    using namespace conv_sm80;
    if (config.columns == 128) return launch_gather<__half, 128, 128, 2, 4>(x, config, stream);
    if (config.rows == 128) return launch_gather<__half, 128, 64, 2, 2>(x, config, stream);
    launch_gather<__half, 64, 64, 2, 2>(x, config, stream);
}

void conv_sm80_weight_grad_fp16(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream) {
    using namespace conv_sm80;
    if (config.columns == 128) return launch_weight_grad<__half, 128, 128, 2, 4>(x, config, stream);
    if (config.rows == 128) return launch_weight_grad<__half, 128, 64, 2, 2>(x, config, stream);
    launch_weight_grad<__half, 64, 64, 2, 2>(x, config, stream);
}
