// Rows of a table by index, and the table's gradient.
//
// Pointers: `weight` is (rows, dim), row i at weight + i * row_stride (elements), each row contiguous; `index` (count)
// and `out` of embedding, `grad` of embedding_backward (count, dim) are contiguous. Nothing overlaps.
//
// embedding: out[i] = weight[index[i]], overwritten. An index outside [0, rows) gives zeros and sets `fault`, an int
// on the device. Values are copied as bytes, whatever the dtype.
//
// embedding_backward: weight_grad[r] (rows, dim, contiguous) = the sum of grad[i] over all i with index[i] == r, in
// the order of i within a chunk of sorted positions, chunks after one another. Rows that no index names, and the row
// `padding_idx` (-1: none), are not written: the caller fills them with zeros. `order` (count) sorts `index` stably, and
// `sorted` (count) is index[order]; numbers outside [0, rows) count for nothing. `workspace` has
// 2 * chunks * dim elements of the accumulator type, chunks = ceil(count / config.chunk), contents lost; the caller
// owns it. Deterministic: the order of summation depends on the indices and the config alone.
#pragma once
#include "../host/dtype.h"
#include "embedding_config.h"

void embedding(void* out, const void* weight, const int64_t* index, int64_t itemsize, int64_t count, int64_t rows,
               int64_t dim, int64_t row_stride, int* fault, const EmbeddingConfig& config, cudaStream_t stream);

void embedding_backward(void* weight_grad, const void* grad, DType dtype, const int64_t* order, const int64_t* sorted,
                        int64_t count, int64_t rows, int64_t dim, int64_t padding_idx, void* workspace,
                        const EmbeddingConfig& config, cudaStream_t stream);
