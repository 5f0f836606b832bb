// Normalisation and its gradients: batch, group, layer, instance and RMS.
//
// Every array is seen as (n, c, s): samples, channels, and all that follows as one; with strides in elements for each,
// and of one memory order: `channels_last` says whether it is channels or positions that are neighbours in memory.
// Outputs are overwritten and may be the same memory as an input of the same dtype and strides, but not overlap it
// otherwise. Any alignment is served. Parameters (c,) are contiguous, of dtype `dtype` or, where that is 16-bit, float32
// (`wide`). Statistics are biased and contiguous, of the type of sums: float32, float64 for float64. The caller owns
// workspaces, whose contents are lost.
// Deterministic: the order of every sum depends on shape, layout and config alone.
#pragma once
#include "../host/dtype.h"
#include "norm_config.h"

struct NormStrides { int64_t n, c, s; };

struct NormShape {
    int64_t n, c, s;
    bool channels_last;
};

// A parameter or its gradient.
struct NormParameter {
    void* data;  // (c,) or null
    bool wide;
};

// What is added before a sample is normalised, in the same pass: the sum residual + dropout(x) is written and takes the
// place of x. For one group of one position only; residual, sum and their like are contiguous. Dropout draws as
// dropout.h has it, at the places of (n, c); it is not drawn at threshold 0.
struct NormDropout {
    const uint64_t* state;  // (2,) seed and base offset, or null at threshold 0
    uint64_t offset;
    uint32_t threshold;
    double scale;  // of what is kept
};
struct NormAdd {
    const void* residual;  // (n, c), or null: nothing is added, and the rest is not looked at
    void* sum;             // (n, c)
    NormDropout dropout;
};

// y = (x - mean) * rstd * weight + bias for each sample and each of `groups` groups of channels. Without `mean` (RMS
// normalisation, of one group) nothing is subtracted, and rstd is that of the mean square.
struct GroupNorm {
    void* y;
    const void* x;
    NormParameter weight, bias;
    void* mean;  // (n, groups), written; or null
    void* rstd;  // (n, groups), written
    NormShape shape;
    NormStrides y_strides, x_strides;
    int64_t groups;
    double eps;
    NormAdd add;
};
void group_norm(const GroupNorm& problem, DType dtype, const NormConfig& config, cudaStream_t stream);

// With g = grad * weight and h = (x - mean) * rstd: dx = rstd * (g - mean(g) - h * mean(g * h)), means over each sample's
// group; the second term only where `mean` is. of_weight = sum(grad * h) and of_bias = sum(grad) over samples and
// positions; either may be null.
struct GroupNormBackward {
    void* dx;
    const void* grad;
    const void* x;
    NormParameter weight, of_weight, of_bias;
    const void* mean;  // (n, groups) or null
    const void* rstd;  // (n, groups)
    void* workspace;   // norm_workspace(config) elements of the sums' type, where a gradient of a parameter is wanted
    NormShape shape;
    NormStrides dx_strides, grad_strides, x_strides;
    int64_t groups;
    // Where x is the sum of a NormAdd: of_sum (n, c), contiguous or null, is added to dx, which is then the gradient of
    // the residual; dropped (n, c), contiguous or null, is what dropout leaves of it, the gradient of what was added.
    const void* of_sum;
    void* dropped;
    NormDropout dropout;
};
void group_norm_backward(const GroupNormBackward& problem, DType dtype, const NormConfig& config, cudaStream_t stream);

// Batch normalisation. Training: mean and rstd (c,) are computed and written, and the running statistics, where they
// are, moved by `momentum` towards the mean and the unbiased variance.
// y = activation((x - mean) * rstd * weight + bias + residual), activation: relu or none.
struct BatchNorm {
    void* y;
    const void* x;
    const void* residual;  // or null
    NormParameter weight, bias;
    void* mean;                        // (c,)
    void* rstd;                        // (c,)
    void *running_mean, *running_var;  // (c,) or null, contiguous, of dtype running
    DType running;
    void* workspace;  // (splits, 3, c) of the sums' type
    NormShape shape;
    NormStrides y_strides, x_strides, residual_strides;
    double eps, momentum;
    bool relu;
    // (moment_parts, 3, c) of the sums' type, contiguous: count, mean and squared deviations of parts of x, as
    // conv_forward leaves them, in the place of a pass over x; or null.
    const void* moments = nullptr;
    int64_t moment_parts = 0;
};
void batch_norm(const BatchNorm& problem, DType dtype, const NormConfig& config, cudaStream_t stream);

// The same with the running statistics in the place of the batch's; mean and rstd are written all the same, no workspace.
void batch_norm_inference(const BatchNorm& problem, DType dtype, const NormConfig& config, cudaStream_t stream);

// g = grad, or 0 where `y` is there and not above 0. dx = rstd * weight * (g - mean(g) - h * mean(g * h)) with means over
// samples and positions, or rstd * weight * g where the statistics were not the batch's own.
struct BatchNormBackward {
    void* dx;
    void* of_residual;  // g, or null
    const void* grad;
    const void* x;
    const void* y;  // the result of the forward pass where it ended in a relu, or null
    NormParameter weight, of_weight, of_bias;
    const void *mean, *rstd;  // (c,)
    void* workspace;          // (splits + 1, 2, c) of the sums' type
    NormShape shape;
    NormStrides dx_strides, residual_strides, grad_strides, x_strides, y_strides;
    bool batch_statistics;
};
void batch_norm_backward(const BatchNormBackward& problem, DType dtype, const NormConfig& config, cudaStream_t stream);

// The gradients of weight and bias alone, of any norm: sums over samples and positions of grad * h and grad, where
// statistic number n * groups + c / (C / groups) is that of sample n and channel c, or number c where groups is 0.
struct NormParameterGradients {
    NormParameter of_weight, of_bias;
    const void *grad, *x, *y;  // y: as in BatchNormBackward
    const void *mean, *rstd;   // mean may be null
    void* workspace;           // (splits + 1, 2, c): the last part is left holding the sums, unrounded
    NormShape shape;
    NormStrides grad_strides, x_strides, y_strides;
    int64_t groups;
};
void norm_parameter_gradients(const NormParameterGradients& problem, DType dtype, const NormConfig& config,
                              cudaStream_t stream);
