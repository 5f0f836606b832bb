// Bias, activation and residual in one pass, and the gradient.
//
// Pointers: x, residual, grad and out have rows * cols contiguous elements of one dtype, bias has cols; residual and bias
// may be null. out is overwritten and may be x, residual or grad itself. Nothing is saved: backward reads x again.
// The config's vector width must fit the pointers and cols (pointwise_config decides by `vectors_fit`).
#pragma once
#include "../host/activation.h"
#include "../host/dtype.h"
#include "pointwise_config.h"

// out = residual + activation(x + bias)
void bias_activation(void* out, const void* x, const void* bias, const void* residual, DType dtype, int64_t rows,
                     int64_t cols, ActivationChoice activation, const PointwiseConfig& config, cudaStream_t stream);

// out = grad * activation'(x + bias)
void bias_activation_backward(void* out, const void* grad, const void* x, const void* bias, DType dtype, int64_t rows,
                              int64_t cols, ActivationChoice activation, const PointwiseConfig& config,
                              cudaStream_t stream);
