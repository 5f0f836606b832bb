// Softmax, log-softmax, their gradients, and cross-entropy with its gradient.
//
// Every array is seen as (outer, length, inner) with strides in elements for each; the softmax runs along `length`.
// Outputs are overwritten and may be the same memory as an input of the same dtype and strides, but not overlap it
// otherwise. Any alignment is served: 16-byte accesses where all arrays allow, single elements elsewhere. No workspace.
// Sums and exponentials are taken in float32 (float64 for float64) in an order that depends on shape and config alone.
// A row that holds NaN or +inf, or nothing but -inf, gives NaN throughout, as PyTorch's.
#pragma once
#include "../host/dtype.h"
#include "softmax_config.h"

struct SoftmaxStrides { int64_t outer, axis, inner; };

struct SoftmaxLayout {
    int64_t outer, length, inner;
    SoftmaxStrides out, x, y;  // y: the second input of a backward, unused in forward
};

// out = softmax(x), or log softmax(x) where `log`.
void softmax(void* out, const void* x, DType dtype, const SoftmaxLayout& layout, bool log, const SoftmaxConfig& config,
             cudaStream_t stream);

// out = y * (x - sum(x * y)), or x - exp(y) * sum(x) where `log`: x is the gradient of the result, y the result.
void softmax_backward(void* out, const void* x, const void* y, DType dtype, const SoftmaxLayout& layout, bool log,
                      const SoftmaxConfig& config, cudaStream_t stream);

// Cross-entropy of each row of logits (rows, classes) with its target class t:
//   loss = (1 - smoothing) * -weight[t] * logp[t] + smoothing / classes * sum_c -weight[c] * logp[c],  0 for ignored rows
struct CrossEntropy {
    void* loss;          // (rows,) of the accumulator's type, contiguous
    void* gradient;      // (rows, classes) contiguous, of the loss of its own row; or null
    const void* logits;  // (rows, classes)
    const void* target;  // (rows,) contiguous int64, int32 or uint8
    const void* weight;  // (classes,) contiguous, of the accumulator's type; or null
    int* fault;          // set to 1 if a target is outside [0, classes) and not ignored: 0 is then
                         // written for that row's loss and gradient
    int64_t rows, classes, row_stride, class_stride;
    int64_t ignore_index;
    double smoothing;
};
void cross_entropy(const CrossEntropy& problem, DType dtype, DType target_dtype, const SoftmaxConfig& config,
                   cudaStream_t stream);
