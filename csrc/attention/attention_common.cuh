// What the attention kernels on ordinary multiply-adds share: rows of a head, sequences of a batch, scores.
#pragma once
#include "../device/convert.cuh"
#include "attention.h"
#include <algorithm>

// Rows of one head's matrix.
template <class T>
struct Matrix {
    const T* data;  // element (0, 0)
    int64_t rows, columns, row_stride, column_stride;
};

// One sequence of the batch: where it lies among the tokens, and which keys its queries may attend to beside the mask.
struct Sequence {
    int64_t batch, q0, queries, k0, keys;
    int64_t shift;          // query i stands at key i + shift
    int64_t before, after;  // query i attends to keys i + before .. i + after

    // The keys begin .. end - 1 that query `row` may attend to, and the queries that may attend to key `column`.
    __device__ __forceinline__ int64_t key_begin(int64_t row) const { return max(int64_t(0), row + before); }
    __device__ __forceinline__ int64_t key_end(int64_t row) const {
        return max(int64_t(0), min(keys, row + after + 1));
    }
    __device__ __forceinline__ int64_t query_begin(int64_t column) const { return max(int64_t(0), column - after); }
    __device__ __forceinline__ int64_t query_end(int64_t column) const {
        return max(int64_t(0), min(queries, column - before + 1));
    }
};

// Of a packed batch: the numbers begin .. end - 1 of one sequence, none where they do not fit.
__device__ __forceinline__ void packed_part(const int32_t* starts, int64_t batch, int64_t tokens, int64_t longest,
                                            int* fault, int64_t& begin, int64_t& count) {
    begin = starts[batch], count = starts[batch + 1] - begin;
    if (begin >= 0 && count >= 0 && count <= longest && begin + count <= tokens) return;
    begin = count = 0;
    if (threadIdx.x == 0) atomicExch(fault, 1);
}

// The sequence with shift, before and after as causality and the window have them.
__device__ __forceinline__ Sequence reach_of(const AttentionProblem& p, Sequence s) {
    constexpr int64_t kFar = int64_t(1) << 60;
    const AttentionFeatures& f = p.features;
    s.before = -kFar, s.after = kFar;
    s.shift = p.causal == AttentionCausal::top_left ? 0 : s.keys - s.queries;
    if (f.window_left >= 0) s.before = s.shift - f.window_left;
    if (p.causal != AttentionCausal::none) s.after = s.shift;
    else if (f.window_right >= 0) s.after = s.shift + f.window_right;
    return s;
}

__device__ __forceinline__ Sequence sequence_of(const AttentionProblem& p, int64_t batch) {
    const AttentionFeatures& f = p.features;
    Sequence s{batch, 0, p.queries, 0, p.keys, 0, 0, 0};
    if (f.q_starts) {
        packed_part(f.q_starts, batch, f.query_tokens, p.queries, f.fault, s.q0, s.queries);
        packed_part(f.k_starts, batch, f.key_tokens, p.keys, f.fault, s.k0, s.keys);
    }
    return reach_of(p, s);
}

// The number of query `row`'s lse and delta.
__device__ __forceinline__ int64_t statistic(const AttentionProblem& p, const Sequence& s, int64_t head, int64_t row) {
    if (p.features.q_starts) return head * p.features.query_tokens + s.q0 + row;
    return (s.batch * p.heads + head) * p.queries + row;
}

template <class T>
__device__ __forceinline__ Matrix<T> head_of(const void* base, const AttentionStrides& s, int64_t batch, int64_t head,
                                             int64_t row0, int64_t rows, int64_t columns) {
    return {static_cast<const T*>(base) + batch * s.batch + head * s.head + row0 * s.row, rows, columns, s.row,
            s.column};
}
// The rows of one sequence in the matrix of a head: of queries, or of keys.
template <class T>
__device__ __forceinline__ Matrix<T>
query_rows(const void* base, const AttentionStrides& strides, const Sequence& s, int64_t head, int64_t columns) {
    return head_of<T>(base, strides, s.batch, head, s.q0, s.queries, columns);
}
template <class T>
__device__ __forceinline__ Matrix<T>
key_rows(const void* base, const AttentionStrides& strides, const Sequence& s, int64_t head, int64_t columns) {
    return head_of<T>(base, strides, s.batch, head, s.k0, s.keys, columns);
}

__device__ __forceinline__ float hyperbolic_tangent(float x) { return tanhf(x); }
__device__ __forceinline__ double hyperbolic_tangent(double x) { return tanh(x); }

// Score (row, column) from the product of its query and key: -inf where it may not be attended to. slope: its derivative
// by scale * product.
template <class T, class A>
__device__ __forceinline__ A score(const AttentionProblem& p, const Sequence& sequence, int64_t head, int64_t row,
                                   int64_t column, A product, A& slope) {
    slope = 1;
    if (row >= sequence.queries || column < row + sequence.before || column >= sequence.key_end(row))
        return -kInfinity<A>;
    A s = product * A(p.scale);
    if (p.features.softcap != 0) {
        const A t = hyperbolic_tangent(s / A(p.features.softcap));
        s = A(p.features.softcap) * t, slope = 1 - t * t;
    }
    if (p.features.slopes) {
        const int64_t distance = row + sequence.shift - column;
        s -= A(p.features.slopes[sequence.batch * p.features.slope_batch + head * p.features.slope_head]) *
             A(distance < 0 ? -distance : distance);
    }
    if (p.mask_kind == AttentionMask::none) return s;
    const int64_t at = sequence.batch * p.mask_strides.batch + head * p.mask_strides.head + row * p.mask_strides.row +
                       column * p.mask_strides.column;
    if (p.mask_kind == AttentionMask::boolean) return static_cast<const bool*>(p.mask)[at] ? s : -kInfinity<A>;
    if (p.mask_kind == AttentionMask::additive_wide) return s + A(static_cast<const float*>(p.mask)[at]);
    return s + convert<A>(static_cast<const T*>(p.mask)[at]);
}

inline void check_attention_shared(const char* function, int64_t bytes) {
    const int limit = current_device().shared_per_block;
    if (bytes > limit)
        throw std::invalid_argument(std::string(function) + ": the head dimension needs " + std::to_string(bytes) +
                                    " bytes of shared memory, the device has " + std::to_string(limit));
}
