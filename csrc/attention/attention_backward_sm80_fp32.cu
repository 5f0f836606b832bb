// The sm80 family's float32 kernels (3xTF32 and TF32), backward.
#include "attention_backward_sm80.cuh"

void attention_backward_sm80_fp32(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    attention_sm80::launch_backward<float>(a, config, stream);
}
