// Dropout fused with bias, activation and residual; the mask is drawn by Philox from the element's place and is never
// stored: backward draws it again from the same state and offset.
//
// Pointers: x, residual, grad and out have rows * cols contiguous elements of one dtype, bias has cols; residual, bias and, in
// backward without an activation, x may be null. out is overwritten and may be x, residual or grad itself. `state` is two
// uint64 in device memory, seed and base offset, which the kernel reads. An element is kept when the upper 24 bits of its
// draw are at least `threshold`, and then scaled.
#pragma once
#include "../host/activation.h"
#include "../host/dtype.h"
#include "dropout_config.h"

struct DropoutDraw {
    const uint64_t* state;
    uint64_t offset;     // added to the state's
    uint32_t threshold;  // 0 to 2^24
    double scale;
};

// out = residual + (kept ? scale * activation(x + bias) : 0)
void dropout(void* out, const void* x, const void* bias, const void* residual, DType dtype, int64_t rows, int64_t cols,
             DropoutDraw draw, ActivationChoice activation, const DropoutConfig& config, cudaStream_t stream);

// out = kept ? scale * grad * activation'(x + bias) : 0
void dropout_backward(void* out, const void* grad, const void* x, const void* bias, DType dtype, int64_t rows,
                      int64_t cols, DropoutDraw draw, ActivationChoice activation, const DropoutConfig& config,
                      cudaStream_t stream);

// out (n bool) = kept
void dropout_mask(bool* out, int64_t n, DropoutDraw draw, const DropoutConfig& config, cudaStream_t stream);
