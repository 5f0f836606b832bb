// Pooling of channels-last images: largest values and means of windows, and their gradients.
//
// Pointers: images are (batch, height, width, channels) contiguous, results (batch, rows.out, columns.out, channels)
// contiguous, all of one dtype; `indices` are int32 of the results' shape, pixels counted along rows of the image. What is
// written is overwritten and overlaps nothing. No workspace; backward of max_pool reads either the image (and finds the
// largest pixel of every window again) or the indices, the other is null.
//
// Numerics: sums in float (double for double), one rounding. max_pool takes the first of equal values, the last NaN, as
// PyTorch; a window of minus infinities gives its first pixel's index. Gradients are sums over the windows that hold a
// pixel, in their order: no atomics, the same bits every run.
#pragma once
#include "../host/dtype.h"
#include "pool_config.h"

// The windows along one dimension of the image.
struct PoolAxis {
    int size, out;                          // pixels, windows
    int kernel, stride, padding, dilation;  // where adaptive, unused
    bool adaptive;                          // window i is from floor(i * size / out) to ceil((i + 1) * size / out)
};

// batch * rows * columns, of the images and of the results, are fewer than 2^32.
struct PoolProblem {
    int64_t batch, channels;
    PoolAxis rows, columns;
};

struct AveragePool {
    bool include_pad;
    int divisor;  // in place of the number of pixels, 0 for that
};

// out: results; indices: null or written.
void max_pool(void* out, int32_t* indices, const void* x, DType dtype, const PoolProblem& problem,
              const PoolConfig& config, cudaStream_t stream);
// out: images. x: images or null; indices: of the results or null.
void max_pool_backward(void* out, const void* grad, const void* x, const int32_t* indices, DType dtype,
                       const PoolProblem& problem, const PoolConfig& config, cudaStream_t stream);
// out: results.
void avg_pool(void* out, const void* x, DType dtype, const PoolProblem& problem, const AveragePool& average,
              const PoolConfig& config, cudaStream_t stream);
// out: images.
void avg_pool_backward(void* out, const void* grad, DType dtype, const PoolProblem& problem, const AveragePool& average,
                       const PoolConfig& config, cudaStream_t stream);
