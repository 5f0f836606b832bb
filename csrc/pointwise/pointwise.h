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

// Gated units, by rows: out = activation(gate) * up, and their gradients gate_grad = grad * up * activation'(gate),
// up_grad = grad * activation(gate).
//
// All are (rows, cols), row i at i * its stride in elements, columns contiguous; outputs are overwritten. Each may be an
// operand itself, but else overlaps nothing. The config's vector width must fit pointers, cols and strides.
struct GatedStrides { int64_t gate, up, grad, out, gate_grad, up_grad; };

void gated_activation(void* out, const void* gate, const void* up, DType dtype, int64_t rows, int64_t cols,
                      const GatedStrides& strides, ActivationChoice activation, const PointwiseConfig& config,
                      cudaStream_t stream);

void gated_activation_backward(void* gate_grad, void* up_grad, const void* grad, const void* gate, const void* up,
                               DType dtype, int64_t rows, int64_t cols, const GatedStrides& strides,
                               ActivationChoice activation, const PointwiseConfig& config, cudaStream_t stream);
