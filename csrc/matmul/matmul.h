// Matrix products of every dtype, layout and shape: out = activation(alpha * a @ b + beta * c + bias + residual).
//
// Pointers: `a` is (batch..., m, k) and `b` (batch..., k, n), read only, of dtype `dtype`, any strides in elements (zero
// and negative ones too), any alignment that their element type allows. `out` and `preactivation` (or null) are
// (batch, m, n) contiguous, of dtype `dtype` or, where that is float16 or bfloat16, float32; they are overwritten and
// may not overlap anything. `bias` (or null) is (n,) of dtype `dtype`; `c` and `residual` (or null) are (batch..., m, n)
// with any strides, of dtype `dtype` or, where that is 16-bit, float32. `workspace` (or null) is matmul_workspace_bytes()
// of anything, 256-byte aligned, its contents lost. The caller owns all of them.
//
// Numerics: 16-bit and float32 inputs are multiplied and summed in float32, float64 in double, integers in their own
// width, wrapping. Every `fold` terms the running sum is added to the total with compensation, so that the error stays
// near that of a sum of `fold` terms whatever K is: NumPy's is as small where its BLAS blocks well, and the error contract
// holds against it. Everything that follows sees the unrounded sum.
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

// One family's launch, in matmul_<family>.cu.
void matmul_general(const MatmulArguments& arguments, DType dtype, const MatmulConfig& config, cudaStream_t stream);
