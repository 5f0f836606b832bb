// The sm90 family's float16 kernels: a file of their own, so that the types are compiled side by side.
#include "conv_sm90.cuh"

void conv_sm90_gather_fp16(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream) {
    conv_sm90::launch_gather<__half>(x, config, stream);
}

void conv_sm90_weight_grad_fp16(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream) {
    conv_sm90::launch_weight_grad<__half>(x, config, stream);
}
