// The sm90 family's bfloat16 kernels, backward: a file of their own, so that the types are compiled side by side.
#include "attention_backward_sm90.cuh"

void attention_backward_sm90_bf16(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    attention_sm90::launch_backward<__nv_bfloat16>(a, config, stream);
}
