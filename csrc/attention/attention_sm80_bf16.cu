// The sm80 family's bfloat16 kernels, forward: a file of their own, so that the types are compiled side by side.
#include "attention_forward_sm80.cuh"

void attention_sm80_bf16(const AttentionForward& a, const AttentionConfig& config, cudaStream_t stream) {
    attention_sm80::launch<__nv_bfloat16>(a, config, stream);
}
