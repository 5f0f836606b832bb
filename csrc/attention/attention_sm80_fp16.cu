// The sm80 family's float16 kernels, forward: a file of their own, so that the types are compiled side by side.
#include "attention_forward_sm80.cuh"

void attention_sm80_fp16(const AttentionForward& a, const AttentionConfig& config, cudaStream_t stream) {
    attention_sm80::launch<__half>(a, config, stream);
}
