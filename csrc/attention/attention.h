// Exact attention without a matrix of scores in memory, and its gradients.
//
//   s = scale * q k^T + mask, p = softmax(s) along keys, out = dropout(p) v
//
// with what AttentionFeatures adds: a cap on scores, biases by distance, a window, sequences of different lengths.
//
// Shapes: q (batch, heads, queries, d), k (batch, key_heads, keys, d), v (batch, key_heads, keys, dv), heads a multiple of
// key_heads: query head h reads key head h / (heads / key_heads). out and grad (batch, heads, queries, dv). All of dtype
// `dtype` with any strides in elements, any alignment. Statistics lse and delta (batch, heads, queries) are contiguous, of
// the type of sums: float32, float64 for float64.
// Outputs are overwritten and overlap nothing. The caller owns everything.
//
// A row in which nothing may be attended to (no keys, all masked) gives zeros, lse -inf, and no gradient.
//   general: every dtype, head dimension and device.
//   sm80: float16 and bfloat16, head dimensions up to 256, on tensor cores: probabilities and gradients of scores are
//   rounded to 16 bits before the products that follow them, as FlashAttention does (Dao 2023). float32, up to 128, as
//   3xTF32 or TF32 (device/mma_product.cuh); an infinity among its operands gives NaN wherever it is multiplied.
//   sm90: the same on wgmma of 16-bit types, where TMA can bring every operand and take every result
//   (attention_rows_by_tma), packed or not; no gradient of a mask together with a cap on scores, whose slope would have to
//   be kept beside it.
// Sums in float32 (float64 for float64), softmax online (Milakov and Gimelshein 2018; Dao et al. 2022), in an order that
// depends on shapes and config alone; gradients likewise, without atomics.
#pragma once
#include "../host/dtype.h"
#include "attention_config.h"

struct AttentionStrides { int64_t batch, head, row, column; };

// Whether TMA can bring the rows of (batch, heads, rows, columns) 16-bit elements: rows of neighbours that begin at
// multiples of 16 bytes, none repeated or backwards.
inline bool attention_rows_by_tma(const void* data, const AttentionStrides& s, int64_t batch, int64_t heads,
                                  int64_t rows, int64_t columns) {
    const auto apart = [](int64_t size, int64_t stride) {
        return size == 1 || (stride > 0 && stride % 8 == 0 && stride < int64_t(1) << 39);
    };
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && (s.column == 1 || columns == 1) && columns > 0 && rows > 0 &&
           rows <= int64_t(1) << 29 && columns < int64_t(1) << 31 && apart(rows, s.row) && apart(heads, s.head) &&
           apart(batch, s.batch);
}

// Which queries may attend to which keys beside the mask. top_left: key j <= query i. bottom_right: j <= i + keys - queries.
enum class AttentionCausal { none, top_left, bottom_right };

enum class AttentionMask {
    none,
    boolean,
    additive,
    additive_wide
};  // of dtype `dtype`, or float32 where that is 16-bit

// What may come on top. Query i stands at key i + shift: the shift is 0 for top_left, else keys - queries.
struct AttentionFeatures {
    // Keys before and after its own place that a query may attend to; negative: all.
    int64_t window_left = -1, window_right = -1;
    double softcap = 0;  // s = softcap * tanh(scale * q k^T / softcap) before anything is added; 0: no cap
    // ALiBi (Press, Smith and Lewis 2022): slope * |i + shift - j| is subtracted from s. (batch, heads) float32 or null.
    const float* slopes = nullptr;
    int64_t slope_batch = 0, slope_head = 0;  // strides
    // Sequences packed one after another (no mask then): q, k, v and their like are (heads, tokens, d) with stride 0 for
    // batches, lse and delta (heads, query_tokens); sequence b has queries q_starts[b] .. q_starts[b + 1] - 1, at most
    // `queries` of them, and keys likewise. What lies in no sequence is not written. A sequence whose numbers do not
    // fit is passed over and sets *fault. Null: every batch has all queries and keys.
    const int32_t *q_starts = nullptr, *k_starts = nullptr;  // (batch + 1,)
    int64_t query_tokens = 0, key_tokens = 0;
    int* fault = nullptr;
};

struct AttentionProblem {
    int64_t batch, heads, key_heads, queries, keys, d, dv;
    const void *q, *k, *v;
    AttentionStrides q_strides, k_strides, v_strides;
    double scale;
    AttentionCausal causal;
    AttentionMask mask_kind;
    const void* mask;  // (batch, heads, queries, keys), repeated dimensions at stride 0
    AttentionStrides mask_strides;
    // Dropout of probabilities: element (b, h, i, j) is kept where the upper 24 bits of its draw are at least threshold, and
    // multiplied by keep_scale. Not drawn at threshold 0.
    const uint64_t* state;  // (2,) seed and base offset, or null at threshold 0
    uint64_t offset;
    uint32_t threshold;
    double keep_scale;
    AttentionFeatures features;
    bool tf32 = false;  // the sm80 family may round float32 operands to TF32
};

struct AttentionForward {
    AttentionProblem problem;
    void* out;
    AttentionStrides out_strides;
    void* lse;  // log of the sum of exp(s) of each row
};
void attention(const AttentionForward& arguments, DType dtype, const AttentionConfig& config, cudaStream_t stream);

struct AttentionBackward {
    AttentionProblem problem;
    const void *grad, *out;
    AttentionStrides grad_strides, out_strides;
    const void* lse;
    void* delta;  // workspace: sum of grad * out of each row
    void *dq, *dk, *dv;
    AttentionStrides dq_strides, dk_strides, dv_strides;
    void* ds;  // gradient of s (batch, heads, queries, keys), contiguous, of the sums' type; or null
};
void attention_backward(const AttentionBackward& arguments, DType dtype, const AttentionConfig& config,
                        cudaStream_t stream);

// std::invalid_argument where the config cannot serve the problem on the device.
void attention_check(const AttentionConfig& config, const AttentionProblem& problem, DType dtype, bool backward,
                     const DeviceProperties& device);

// The families' launches, in attention_<family>_<type>.cu and attention_backward_<family>_<type>.cu; delta is there already.
void attention_sm80_fp16(const AttentionForward& arguments, const AttentionConfig& config, cudaStream_t stream);
void attention_sm80_bf16(const AttentionForward& arguments, const AttentionConfig& config, cudaStream_t stream);
void attention_sm80_fp32(const AttentionForward& arguments, const AttentionConfig& config, cudaStream_t stream);
void attention_sm90_fp16(const AttentionForward& arguments, const AttentionConfig& config, cudaStream_t stream);
void attention_sm90_bf16(const AttentionForward& arguments, const AttentionConfig& config, cudaStream_t stream);
void attention_backward_sm90_fp16(const AttentionBackward& arguments, const AttentionConfig& config,
                                  cudaStream_t stream);
void attention_backward_sm90_bf16(const AttentionBackward& arguments, const AttentionConfig& config,
                                  cudaStream_t stream);
void attention_backward_sm80_fp16(const AttentionBackward& arguments, const AttentionConfig& config,
                                  cudaStream_t stream);
void attention_backward_sm80_bf16(const AttentionBackward& arguments, const AttentionConfig& config,
                                  cudaStream_t stream);
void attention_backward_sm80_fp32(const AttentionBackward& arguments, const AttentionConfig& config,
                                  cudaStream_t stream);
