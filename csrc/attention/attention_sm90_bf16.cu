// The sm90 family's bfloat16 kernels, forward: a file of their own, so that the types are compiled side by side.
#include "attention_forward_sm90.cuh"

void attention_sm90_bf16(const AttentionForward& a, const AttentionConfig& config, cudaStream_t stream) {
    attention_sm90::launch<__nv_bfloat16>(a, config, stream);
}
