// The sm80 family's bfloat16 kernels: a file of their own, so that the types are compiled side by side.
#include "conv_sm80.cuh"

void conv_sm80_gather_bf16(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream) {
    using namespace conv_sm80;
    if (config.columns == 128) return launch_gather<__nv_bfloat16, 128, 128, 2, 4>(x, config, stream);
    if (config.rows == 128) return launch_gather<__nv_bfloat16, 128, 64, 2, 2>(x, config, stream);
    launch_gather<__nv_bfloat16, 64, 64, 2, 2>(x, config, stream);
}

void conv_sm80_weight_grad_bf16(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream) {
    using namespace conv_sm80;
    if (config.columns == 128) return launch_weight_grad<__nv_bfloat16, 128, 128, 2, 4>(x, config, stream);
    if (config.rows == 128) return launch_weight_grad<__nv_bfloat16, 128, 64, 2, 2>(x, config, stream);
    launch_weight_grad<__nv_bfloat16, 64, 64, 2, 2>(x, config, stream);
}
