// Convolutions of channels-last images as implicit matrix products: windows are gathered, never written to memory.
//
// Pointers, all contiguous, of one dtype, overlapping nothing that is written; the caller owns all of them:
//   images (batch, image.., channels), results (batch, out.., filters),
//   weight of conv_forward (groups, filters / groups, R, S, channels / groups), read only;
//   weight of conv_input_grad (groups, channels / groups, R, S, filters / groups), read only;
//   out of conv_weight_grad (filters, channels / groups, R, S), overwritten; where conv_weight_grad_parts is not 0, workspace
//   is that many times as many of the accumulator's type, overwritten: the sm80 family adds what it leaves there, the others'
//   column_sum then adds in order;
//   bias (as many as the last dimension of what is written), residual and preactivation (of the shape of what is
//   written), or null;
//   moments of conv_forward (conv_moment_parts(config), 3, filters) of the accumulator's type, or null: count, mean and
//   squared deviations of each channel's results, as rounded, in parts of the pixels: what batch normalisation takes in
//   the place of its first pass. Without residual and activation.
//
// Numerics: 16-bit and float32 products are summed in float32, float64's in double; what follows sees the unrounded sum:
// activation(sum + bias + residual), one rounding.
//   general: in runs of config.fold terms with compensation, as matmul's.
//   sm80: tensor cores, as matmul's sm80 family: float32 is 3xTF32, promoted every config.fold terms; 16-bit types stay in
//   the tensor cores, at most 11 units of 2^-24 sum|a b| for every 8 terms.
//   sm90: wgmma, with the error of sm80's 16-bit types.
//   few_channels: 16-bit types as sm80, others as general.
//   depthwise: multiply-adds; rows of a window, and runs of 16 pixels, have sums of their own.
// Deterministic: the order of a sum depends on the shape and the config alone.
#pragma once
#include "../host/activation.h"
#include "../host/dtype.h"
#include "conv_config.h"

struct ConvEpilogue {
    const void* bias;
    const void* residual;
    void* preactivation;
    ActivationChoice activation;
    void* moments = nullptr;
};

void conv_forward(void* out, const void* x, const void* weight, const ConvEpilogue& epilogue, DType dtype,
                  const ConvShape& shape, const ConvConfig& config, cudaStream_t stream);
void conv_input_grad(void* out, const void* grad, const void* weight, const ConvEpilogue& epilogue, DType dtype,
                     const ConvShape& shape, const ConvConfig& config, cudaStream_t stream);
void conv_weight_grad(void* out, const void* grad, const void* x, void* workspace, DType dtype, const ConvShape& shape,
                      const ConvConfig& config, cudaStream_t stream);
