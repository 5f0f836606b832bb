// The sm90 family's float16 kernels, backward: a file of their own, so that the types are compiled side by side.
#include "attention_backward_sm90.cuh"

void attention_backward_sm90_fp16(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    attention_sm90::launch_backward<__half>(a, config, stream);
}
