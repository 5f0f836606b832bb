// What the attention kernels on ordinary multiply-adds share: rows of a head, sequences of a batch, scores.
#pragma once
#include "../device/convert.cuh"
#include "../device/philox.cuh"
#include "../ptx/sm80.h"
#include "attention.h"
#include <algorithm>

// What a pass of backward makes.
enum class Gradient { q, k_and_v, k, v };

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

// Which of a thread's scores dropout keeps, where tensor cores left them: of blocks of 8 columns, elements v of block j are
// rows row0 + lane / 4 + 8 * (v / 2), columns column0 + 8 * j + 2 * (lane % 4) + v % 2; bit 4 * j + v. kByKeys: rows are
// keys. row0 and column0 are multiples of 8. Philox is long: loops are not unrolled, and where four keys are one draw the
// lanes that need its words share it.
template <int kBlocks, bool kByKeys>
__device__ __forceinline__ auto
kept(const AttentionProblem& p, int64_t batch, int64_t head, int64_t row0, int64_t column0) {
    static_assert(kBlocks <= 16 && kBlocks % 2 == 0);
    using Bits = std::conditional_t<(kBlocks > 8), uint64_t, uint32_t>;
    const uint64_t seed = p.state[0], offset = p.state[1] + p.offset;
    const int lane = ptx::opaque(int(threadIdx.x)) % 32;
    const auto draw = [&](uint64_t block) {
        // The keys of ten rounds, made of the seed, are not to be held in registers through a loop.
        const uint64_t key = uint64_t(uint32_t(ptx::opaque(int(seed >> 32)))) << 32 | uint32_t(ptx::opaque(int(seed)));
        return philox(key, block, offset);
    };
    const auto index_of = [&](int64_t row, int64_t column) {
        const int64_t query = kByKeys ? column : row, key = kByKeys ? row : column;
        return uint64_t(((batch * p.heads + head) * p.queries + query) * p.keys + key);
    };
    const auto keeps = [&](uint32_t drawn) { return Bits(drawn >> 8 >= p.threshold); };
    Bits bits = 0;
    if (p.keys % 4 == 0) {
        const auto four = [&](uint64_t index) {
            const uint4 draws = draw(index >> 2);
            return uint32_t(keeps(draws.x) | keeps(draws.y) << 1 | keeps(draws.z) << 2 | keeps(draws.w) << 3);
        };
        if constexpr (kByKeys) {
            // Lanes 4 apart hold four keys of the same queries: each draws for another of the four elements of a block.
            const int mine = lane / 4 % 4, key = lane / 16 * 4;
#pragma unroll 1
            for (int j = 0; j < kBlocks; ++j) {
                const uint32_t drawn =
                    four(index_of(row0 + mine / 2 * 8 + key, column0 + j * 8 + lane % 4 * 2 + mine % 2));
#pragma unroll
                for (int v = 0; v < 4; ++v)
                    bits |= Bits(__shfl_sync(~0u, drawn, lane / 16 * 16 + v * 4 + lane % 4) >> mine & 1) << (j * 4 + v);
            }
        } else {
            // Two neighbours have two keys each of a draw: one draws for this block, the other for the next.
            const int odd = lane % 2;
#pragma unroll 1
            for (int n = 0; n < kBlocks; ++n) {
                const int j = n / 2 * 2, half = n % 2;
                const uint32_t drawn =
                    four(index_of(row0 + lane / 4 + half * 8, column0 + (j + odd) * 8 + lane % 4 / 2 * 4));
                const uint32_t other = __shfl_xor_sync(~0u, drawn, 1);
                const uint32_t first = (odd ? other : drawn) >> odd * 2 & 3,
                               second = (odd ? drawn : other) >> odd * 2 & 3;
                bits |= Bits(first | second << 4) << (j * 4 + half * 2);
            }
        }
        return bits;
    }
#pragma unroll 1
    for (int n = 0; n < kBlocks * 2; ++n) {
        const uint64_t index = index_of(row0 + lane / 4 + n % 2 * 8, column0 + n / 2 * 8 + lane % 4 * 2);
        uint4 draws = draw(index >> 2);
        bits |= keeps(word(draws, int(index & 3))) << (n / 2 * 4 + n % 2 * 2);
        const uint64_t next = index + (kByKeys ? uint64_t(p.keys) : 1);
        if (next >> 2 != index >> 2) draws = draw(next >> 2);
        bits |= keeps(word(draws, int(next & 3))) << (n / 2 * 4 + n % 2 * 2 + 1);
    }
    return bits;
}

inline void check_attention_shared(const char* function, int64_t bytes) {
    const int limit = current_device().shared_per_block;
    if (bytes > limit)
        throw std::invalid_argument(std::string(function) + ": the head dimension needs " + std::to_string(bytes) +
                                    " bytes of shared memory, the device has " + std::to_string(limit));
}
