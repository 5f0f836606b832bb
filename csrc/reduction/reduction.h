// Sums over the rows of a matrix (bias gradients, weight gradients of norms).
//
// Pointers: `x` is (rows, cols) in elements, element (i, j) at x + i * row_stride + j * column_stride, any
// strides (zero and negative ones too); read only.
// `out` has `cols` elements, overwritten, and may not overlap x. `workspace` has config.splits * cols elements of the
// accumulator type, contents lost (null when splits is 1); the caller owns all three.
// Deterministic: every column is summed in an order that depends on the shape, the layout and the config alone.
#pragma once
#include "../host/dtype.h"
#include "reduction_config.h"

void column_sum(void* out, DType out_dtype, const void* x, DType x_dtype, int64_t rows, int64_t cols,
                int64_t row_stride, int64_t column_stride, void* workspace, const ColumnSumConfig& config,
                cudaStream_t stream);
