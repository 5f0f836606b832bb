// What the sm90 family makes of a tile of products where a problem asks for more than their softmax: a cap, biases by
// distance, masks, dropout. A tile at a time, in the registers where wgmma left them, by branches that are the same for
// all threads: a plain problem pays one of them a tile.
#pragma once
#include "attention_sm90.cuh"

namespace attention_sm90 {

// Whether scores are more than scaled products. Which keys a query sees does not count.
__host__ __device__ __forceinline__ bool is_featured(const AttentionProblem& p) {
    return p.mask_kind != AttentionMask::none || p.features.softcap != 0 || p.features.slopes;
}

// tanh(x) = 1 - r with r = 2 / (exp(2 x) + 1), to a few units of 2^-24: what a cap multiplies. Its slope is r (2 - r).
__device__ __forceinline__ float tangent_complement(float x) {
    return __fdividef(2.0f, ptx::ex2_approx_ftz(x * (2 * kLog2E)) + 1);
}

// Where this thread's elements of a tile are: element v is own row `row` + 8 * (v / 2 % 2), column `column` + 8 * (v / 4) +
// v % 2. `rows`, `columns`: where there are no more. kByKeys: rows are keys.
struct Part { int row, column, rows, columns; };

// f(first, some) for all runs of kRun elements in a loop that is not unrolled, for code too long to stand there once for
// each element: registers have no index, so the runs take turns at place 0.
template <int kRun, int kElements, class F>
__device__ __forceinline__ void each_run(float (&x)[kElements], F f) {
    static_assert(kElements % kRun == 0);
#pragma unroll 1
    for (int first = 0; first < kElements; first += kRun) {
        float some[kRun];
#pragma unroll
        for (int i = 0; i < kRun; ++i) some[i] = x[i];
        f(first, some);
#pragma unroll
        for (int i = 0; i + kRun < kElements; ++i) x[i] = x[i + kRun];
#pragma unroll
        for (int i = 0; i < kRun; ++i) x[kElements - kRun + i] = some[i];
    }
}

// mask: at the part's first element; strides of its rows and columns.
template <class M, int kRun>
__device__ __forceinline__ void
add_mask(float (&s)[kRun], const M* mask, int64_t of_rows, int64_t of_columns, const Part& part) {
#pragma unroll
    for (int v = 0; v < kRun; ++v) {
        const int down = v / 2 % 2 * 8, across = v / 4 * 8 + v % 2;
        if (part.row + down >= part.rows || part.column + across >= part.columns) continue;
        const M m = mask[down * of_rows + across * of_columns];
        if constexpr (std::is_same_v<M, bool>) s[v] = m ? s[v] : -kInfinity<float>;
        else s[v] += convert<float>(m);
    }
}

// Biases are added to scores: by distance, and the mask.
template <class T, bool kByKeys, int kRun>
__device__ __forceinline__ void
add_biases(float (&s)[kRun], const AttentionProblem& p, int64_t batch, int head, int shift, const Part& part) {
    if (p.features.slopes) {
        const float slope = p.features.slopes[batch * p.features.slope_batch + head * p.features.slope_head];
        const float distance = float((kByKeys ? part.column - part.row : part.row - part.column) + int64_t(shift));
#pragma unroll
        for (int v = 0; v < kRun; ++v)
            s[v] -= slope * fabsf(distance + (kByKeys ? 1 : -1) * float(v / 4 * 8 + v % 2 - v / 2 % 2 * 8));
    }
    if (p.mask_kind == AttentionMask::none) return;
    const AttentionStrides& strides = p.mask_strides;
    const int64_t of_rows = kByKeys ? strides.column : strides.row, of_columns = kByKeys ? strides.row : strides.column;
    const int64_t at = batch * strides.batch + head * strides.head + part.row * of_rows + part.column * of_columns;
    if (p.mask_kind == AttentionMask::boolean)
        add_mask(s, static_cast<const bool*>(p.mask) + at, of_rows, of_columns, part);
    else if (p.mask_kind == AttentionMask::additive_wide)
        add_mask(s, static_cast<const float*>(p.mask) + at, of_rows, of_columns, part);
    else add_mask(s, static_cast<const T*>(p.mask) + at, of_rows, of_columns, part);
}

// Products become scores: all of it but which keys a query sees.
template <class T, int kElements>
__device__ __forceinline__ void
finish_scores(float (&s)[kElements], const AttentionProblem& p, int64_t batch, int head, int shift, const Part& part) {
    constexpr int kRun = kElements % 16 == 0 ? 16 : 8;
    each_run<kRun>(s, [&](int first, float (&some)[kRun]) {
        const float scale = float(p.scale);
        if (p.features.softcap != 0) {
            const float cap = float(p.features.softcap), to_cap = scale / cap;
#pragma unroll
            for (int v = 0; v < kRun; ++v) some[v] = fmaf(-cap, tangent_complement(some[v] * to_cap), cap);
        } else {
#pragma unroll
            for (int v = 0; v < kRun; ++v) some[v] *= scale;
        }
        add_biases<T, false>(some, p, batch, head, shift,
                             Part{ptx::opaque(part.row), part.column + first * 2, part.rows, part.columns});
    });
}

// The same, and gradients of scores become those of scaled products.
template <class T, bool kByKeys, int kElements>
__device__ __forceinline__ void finish_scores(float (&s)[kElements], float (&ds)[kElements], const AttentionProblem& p,
                                              int64_t batch, int head, int shift, const Part& part) {
    constexpr int kRun = 8;
    const float scale = float(p.scale);
    if (p.features.softcap != 0) {
        const float cap = float(p.features.softcap), to_cap = scale / cap;
#pragma unroll
        for (int v = 0; v < kElements; ++v) {
            const float r = tangent_complement(s[v] * to_cap);
            s[v] = fmaf(-cap, r, cap), ds[v] *= r * (2 - r);
        }
    } else {
#pragma unroll
        for (int v = 0; v < kElements; ++v) s[v] *= scale;
    }
    if (p.features.slopes || p.mask_kind != AttentionMask::none)
        each_run<kRun>(s, [&](int first, float (&some)[kRun]) {
            add_biases<T, kByKeys>(some, p, batch, head, shift,
                                   Part{ptx::opaque(part.row), part.column + first * 2, part.rows, part.columns});
        });
}

}  // namespace attention_sm90
