// The sm80 family's bfloat16 kernels, backward.
#include "attention_backward_sm80.cuh"

void attention_backward_sm80_bf16(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    attention_sm80::launch_backward<__nv_bfloat16>(a, config, stream);
}
