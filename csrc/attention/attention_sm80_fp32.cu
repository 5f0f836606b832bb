// The sm80 family's float32 kernels (3xTF32 and TF32), forward: a file of their own, so that the types are compiled side by side.
#include "attention_forward_sm80.cuh"

void attention_sm80_fp32(const AttentionForward& a, const AttentionConfig& config, cudaStream_t stream) {
    attention_sm80::launch<float>(a, config, stream);
}
