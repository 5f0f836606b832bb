// Matrix products of every dtype, layout and shape: out = activation(alpha * a @ b + beta * c + bias + residual).
//
// Pointers: `a` is (batch..., m, k) and `b` (batch..., k, n), read only, of dtype `dtype`, any strides in elements (zero
// and negative ones too), any alignment that their element type allows. `out` and `preactivation` (or null) are
// (batch, m, n) contiguous, of dtype `dtype` or, where that is float16 or bfloat16, float32; they are overwritten and
// may not overlap anything. `bias` (or null) is (n,) of dtype `dtype`; `c` and `residual` (or null) are (batch..., m, n)
// with any strides, of dtype `dtype` or, where that is 16-bit, float32. `row_sums` (or null) is (batch, m) contiguous, of
// dtype `dtype`, overwritten: the gradient of a bias beside that of its weight. `workspace` (or null) is matmul_workspace_bytes()
// of anything, 256-byte aligned, its contents lost. The caller owns all of them.
//
// Numerics: 16-bit and float32 inputs are multiplied and summed in float32, float64 in double, integers in their own
// width, wrapping; everything that follows sees the unrounded sum. float32: the error is at most twice NumPy's or
// 2^-21 sum|a b|, whichever is larger, for numbers beyond 2^-110 or so (the small half of a smaller one is no TF32 number
// any more), with `tf32` that of operands rounded to TF32. Infinities and NaN propagate as IEEE says.
//   general: every `fold` terms the running sum is added to the total with compensation, so that the error stays near that
//   of a sum of `fold` terms whatever K is: NumPy's is as small where its BLAS blocks well.
//   sm80: tensor cores cut off where they add. float32 is 3xTF32, promoted every `fold` terms in the same way; 16-bit
//   types stay in the tensor cores, at most 11 units of 2^-24 sum|a b| for every 8 terms.
// Deterministic: the order depends on K and the config alone.
#pragma once
#include "../host/activation.h"
#include "../host/dtype.h"
#include "matmul_config.h"

constexpr int kMatmulBatchRank = 8;

// What is added to the product, element by element.
struct MatmulAddend {
    const void* data;                    // (batch..., m, n) or null
    int64_t row, column, batch[kMatmulBatchRank];    // strides in elements
    bool wide;                           // float32 though the operands are 16-bit
};

struct MatmulArguments {
    void* out;                           // (batch, m, n)
    void* preactivation;                 // (batch, m, n) or null: what the activation is applied to
    const void* a;                       // (batch..., m, k)
    const void* b;                       // (batch..., k, n)
    const void* bias;                    // (n,) or null
    void* row_sums;                      // (batch, m) or null: a summed over k, of dtype `dtype`
    void* workspace;                     // matmul_workspace_bytes(), or null where that is 0
    int64_t m, n, k;
    int64_t a_row, a_k, b_k, b_column, bias_stride;                             // strides in elements
    int batch_rank;
    int64_t batch_shape[kMatmulBatchRank], a_batch[kMatmulBatchRank], b_batch[kMatmulBatchRank];
    bool tf32;                           // float32 operands may be rounded to TF32
    bool wide_out;                       // out and preactivation are float32 though the inputs are 16-bit
    ActivationChoice activation;         // none for integers
    double alpha, beta;
    int64_t integer_alpha, integer_beta; // the same for integer dtypes
    MatmulAddend c, residual;
};

// Launches the family that the config names, once matmul_check() has passed it.
void matmul(const MatmulArguments& arguments, DType dtype, const MatmulConfig& config, cudaStream_t stream);

// One family's launch, in matmul_<family>.cu or, an element type each, matmul_<family>_<type>.cu.
void matmul_general(const MatmulArguments& arguments, DType dtype, const MatmulConfig& config, cudaStream_t stream);
void matmul_sm80_fp16(const MatmulArguments& arguments, const MatmulConfig& config, cudaStream_t stream);
void matmul_sm80_bf16(const MatmulArguments& arguments, const MatmulConfig& config, cudaStream_t stream);
void matmul_sm80_fp32(const MatmulArguments& arguments, const MatmulConfig& config, cudaStream_t stream);
void matmul_sm90_fp16(const MatmulArguments& arguments, const MatmulConfig& config, cudaStream_t stream);
void matmul_sm90_bf16(const MatmulArguments& arguments, const MatmulConfig& config, cudaStream_t stream);
