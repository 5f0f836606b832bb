// What becomes of a sum: out = activation(alpha * sum + beta * c + bias + residual), in every launch of matmul.
#pragma once
#include "../device/activation.cuh"
#include "../device/convert.cuh"
#include "../device/staged_results.cuh"
#include "matmul.h"
#include <algorithm>

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

// Which arrays can be accessed a run of columns at once: one that starts at a multiple of its length and ends within n.
struct MatmulRuns { bool out, bias, c, residual; };

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

// One copy of the activations' code for a whole file: a run of them would be kernels of a megabyte.
[[maybe_unused]] GPU_NOINLINE static __device__ float matmul_activate(Activation kind, float x, float parameter) {
    return activate(kind, x, parameter);
}

template <class T, int kN>
__device__ __forceinline__ void matmul_store_run(void* to, int64_t index, const float (&value)[kN], bool wide) {
    if constexpr (sizeof(T) == 2)
        if (wide) return store_run(static_cast<float*>(to) + index, value);
    store_run(static_cast<T*>(to) + index, value);
}

// value += factor * elements (column to column + kN - 1) of the row that starts at `index`.
template <class T, int kN>
__device__ __forceinline__ void matmul_add_run(const MatmulAddend& x, bool run, int64_t index, int64_t column, float factor,
                                               float (&value)[kN]) {
    float more[kN];
    if (run) {
        if (sizeof(T) == 2 && x.wide) load_run(more, static_cast<const float*>(x.data) + index + column);
        else load_run(more, static_cast<const T*>(x.data) + index + column);
    } else {
#pragma unroll
        for (int i = 0; i < kN; ++i) more[i] = matmul_addend<T, float>(x, index + (column + i) * x.column);
    }
#pragma unroll
    for (int i = 0; i < kN; ++i) value[i] += factor * more[i];
}

// The same as matmul_finish for kN neighbours of a row. Where `runs.out` is false it may not be called.
template <class T, int kN>
__device__ __forceinline__ void matmul_finish_run(const MatmulArguments& x, const MatmulRuns& runs, const MatmulOffsets& at,
                                                  int64_t product, int64_t row, int64_t column, float (&value)[kN]) {
    const int64_t index = (product * x.m + row) * x.n + column;
#pragma unroll
    for (int i = 0; i < kN; ++i) value[i] *= float(x.alpha);
    if (x.c.data) matmul_add_run<T>(x.c, runs.c, at.c + row * x.c.row, column, float(x.beta), value);
    if (x.bias) {
        const MatmulAddend bias{x.bias, 0, x.bias_stride, {}, false};
        matmul_add_run<T>(bias, runs.bias, 0, column, 1.0f, value);
    }
    if (x.residual.data) matmul_add_run<T>(x.residual, runs.residual, at.residual + row * x.residual.row, column, 1.0f, value);
    if (x.preactivation) matmul_store_run<T>(x.preactivation, index, value, x.wide_out);
    if (x.activation.kind != Activation::none) {
#pragma unroll
        for (int i = 0; i < kN; ++i) value[i] = matmul_activate(x.activation.kind, value[i], float(x.activation.parameter));
    }
    matmul_store_run<T>(x.out, index, value, x.wide_out);
}

// The runs of kN elements of T that these arrays allow.
template <class T, int kN>
MatmulRuns matmul_runs(const MatmulArguments& x) {
    const auto aligned = [](const void* p, bool wide) {
        return reinterpret_cast<uintptr_t>(p) % std::min<size_t>(16, kN * (wide ? 4 : sizeof(T))) == 0;
    };
    const auto addend = [&](const MatmulAddend& a) {
        bool run = a.column == 1 && aligned(a.data, a.wide) && (x.m <= 1 || a.row % kN == 0);
        for (int d = 0; d < x.batch_rank; ++d) run = run && (x.batch_shape[d] <= 1 || a.batch[d] % kN == 0);
        return run;
    };
    return {x.n % kN == 0 && aligned(x.out, x.wide_out) && aligned(x.preactivation, x.wide_out),
            x.bias_stride == 1 && aligned(x.bias, false), addend(x.c), addend(x.residual)};
}
