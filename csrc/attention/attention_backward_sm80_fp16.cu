// The sm80 family's float16 kernels, backward.
#include "attention_backward_sm80.cuh"

void attention_backward_sm80_fp16(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    attention_sm80::launch_backward<__half>(a, config, stream);
}
