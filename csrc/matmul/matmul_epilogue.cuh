// What becomes of a sum: out = activation(alpha * sum + beta * c + bias + residual), in every launch of matmul.
#pragma once
#include "../device/activation.cuh"
#include "../device/convert.cuh"
#include "matmul.h"

// The place of one product of a batch in the arrays that have a batch.
struct MatmulOffsets { int64_t a, b, c, residual; };

__device__ __forceinline__ MatmulOffsets matmul_offsets(const MatmulArguments& x, int64_t product) {
    MatmulOffsets at{};
    for (int d = x.batch_rank - 1; d >= 0; --d) {
        const int64_t index = product % x.batch_shape[d];
        product /= x.batch_shape[d];
        at.a += index * x.a_batch[d];
        at.b += index * x.b_batch[d];
        at.c += index * x.c.batch[d];
        at.residual += index * x.residual.batch[d];
    }
    return at;
}

// The tile that comes t-th among those of one product: neighbouring blocks take eight tile rows by turns, column after
// column, so that their operands share the L2.
struct MatmulPosition { int64_t row, column; };

__device__ __forceinline__ MatmulPosition matmul_position(int64_t t, int64_t tiles_down, int64_t tiles_across) {
    constexpr int64_t kGroup = 8;
    const int64_t group = t / (kGroup * tiles_across), in_group = t % (kGroup * tiles_across);
    const int64_t group_rows = min(kGroup, tiles_down - group * kGroup);
    return {group * kGroup + in_group % group_rows, in_group / group_rows};
}

template <class T, class Sum>
__device__ __forceinline__ void matmul_store(void* to, int64_t index, Sum value, bool wide) {
    if constexpr (sizeof(T) == 2) {
        if (wide) {
            static_cast<float*>(to)[index] = value;
            return;
        }
    }
    static_cast<T*>(to)[index] = convert<T>(value);
}

template <class T, class Sum>
__device__ __forceinline__ Sum matmul_addend(const MatmulAddend& x, int64_t index) {
    if constexpr (sizeof(T) == 2)
        if (x.wide) return static_cast<const float*>(x.data)[index];
    return convert<Sum>(static_cast<const T*>(x.data)[index]);
}

// `value` is element (row, column) of the product whose offsets are `at`.
template <class T, class Sum>
__device__ __forceinline__ void matmul_finish(const MatmulArguments& x, const MatmulOffsets& at, int64_t product, int64_t row,
                                              int64_t column, Sum value) {
    const int64_t index = (product * x.m + row) * x.n + column;
    if constexpr (std::is_floating_point_v<Sum>) value *= Sum(x.alpha);
    else value *= Sum(x.integer_alpha);
    if (x.c.data) {
        const Sum c = matmul_addend<T, Sum>(x.c, at.c + row * x.c.row + column * x.c.column);
        if constexpr (std::is_floating_point_v<Sum>) value += Sum(x.beta) * c;
        else value += Sum(x.integer_beta) * c;
    }
    if (x.bias) value += convert<Sum>(static_cast<const T*>(x.bias)[column * x.bias_stride]);
    if (x.residual.data)
        value += matmul_addend<T, Sum>(x.residual, at.residual + row * x.residual.row + column * x.residual.column);
    if (x.preactivation) matmul_store<T>(x.preactivation, index, value, x.wide_out);
    if constexpr (std::is_floating_point_v<Sum>) value = activate(x.activation.kind, value, Sum(x.activation.parameter));
    matmul_store<T>(x.out, index, value, x.wide_out);
}
