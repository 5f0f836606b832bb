// The product of two operands by one block, on ordinary multiply-adds: what the general kernels of matmul and conv are
// built around. They say where elements come from; here is how they are multiplied.
//
// Each step of 8 along k, every thread fetches four consecutive elements of each operand into registers while the block
// multiplies the step before from shared memory; both operands lie there k-major, in the type of the sums, so that one
// 16-byte read gives a thread four rows (columns) of one k.
#pragma once
#include "../host/dtype.h"
#include "../host/product_tile.h"
#include "convert.cuh"
#include <type_traits>

constexpr int kQuad = 4;

// Sums of integers wrap; only unsigned arithmetic may.
template <class T> struct SumOf { using type = accumulator_t<T>; };
template <> struct SumOf<int32_t> { using type = uint32_t; };
template <> struct SumOf<int64_t> { using type = uint64_t; };
template <> struct SumOf<uint8_t> { using type = uint32_t; };

template <class T> struct alignas(sizeof(T) * kQuad < 16 ? sizeof(T) * kQuad : 16) Quad { T v[kQuad]; };

// A block's tile; a thread computes thread_rows x thread_columns of it.
template <int kRows_, int kColumns_, int kThreadRows_, int kThreadColumns_>
struct ProductTile {
    static constexpr int kRows = kRows_, kColumns = kColumns_, kThreadRows = kThreadRows_,
                         kThreadColumns = kThreadColumns_;
    static constexpr int kThreads = kRows / kThreadRows * (kColumns / kThreadColumns);
    static constexpr int kStageA = kProductStep * (kRows + kProductPad);
    static constexpr int kStage = kStageA + kProductStep * (kColumns + kProductPad);
    static_assert(kThreads * kQuad == kRows * kProductStep && kThreads * kQuad == kColumns * kProductStep,
                  "a quad each");
};

// Where a second set of sums does not fit the registers, totals live in the tile of results.
template <class Sum, class Tile>
constexpr bool kTotalsAreShared =
    std::is_floating_point_v<Sum> && product_totals_are_shared(Tile::kThreadRows, Tile::kThreadColumns, sizeof(Sum));

// Where a thread's four elements of a step lie in a tile with kOuter rows (columns): the first of them.
struct QuadPlace { int outer, k; };

template <int kOuter>
__device__ __forceinline__ QuadPlace quad_place(int thread, bool along_k) {
    if (along_k) return {thread / 2, thread % 2 * kQuad};
    return {thread * kQuad % kOuter, thread * kQuad / kOuter};
}

// stage: (kProductStep, kOuter + kProductPad)
template <int kOuter, class T, class Sum>
__device__ __forceinline__ void put(Sum* stage, const Quad<T>& q, bool along_k, QuadPlace at) {
    constexpr int kPitch = kOuter + kProductPad;
    Quad<Sum> sum;
#pragma unroll
    for (int i = 0; i < kQuad; ++i) sum.v[i] = convert<Sum>(q.v[i]);
    if (along_k) {
#pragma unroll
        for (int i = 0; i < kQuad; ++i) stage[(at.k + i) * kPitch + at.outer] = sum.v[i];
    } else {
        *reinterpret_cast<Quad<Sum>*>(stage + at.k * kPitch + at.outer) = sum;
    }
}

// `kSpan` tile rows (columns) shared by threads that hold kCount each: groups of four, the groups a whole span of
// threads apart, so that the threads of a warp read neighbouring 16 bytes.
template <int kSpan, int kCount>
__device__ __forceinline__ int element(int thread, int i) {
    return i / kQuad * (kSpan / (kCount / kQuad)) + thread * kQuad + i % kQuad;
}

// total += sum; sum is left with what that addition lost, and goes on from there (Kahan): the error of the whole sum is
// that of its groups, however many there are. An infinite total lost nothing that could be said in numbers.
template <class Sum>
__device__ __forceinline__ void fold_into(Sum& total, Sum& sum) {
    const Sum before = total;
    total = before + sum;
    const Sum lost = sum - (total - before);
    sum = fabs(lost) < Sum(INFINITY) ? lost : Sum(0);
}

struct SeesNothing {
    template <class Sum> __device__ __forceinline__ void operator()(const Sum*) const {}
};

// The tile of products in shared memory: (kRows, kColumns), complete and visible to the block when this returns. The
// caller has a barrier between reading it and the next call.
// fetch_a(step), fetch_b(step): this thread's Quad of a step, from 0 to `steps` in order, each once; its place is
// quad_place(threadIdx.x, along_k). `fold`: terms after which a running sum is added to its total.
// see_a(stage): sees a's part of each step, (kProductStep, kRows + kProductPad), beside the products.
template <class Tile, class Sum, class FetchA, class FetchB, class SeeA = SeesNothing>
__device__ __forceinline__ const Sum*
block_product(unsigned char* shared, int64_t steps, int fold, bool a_along_k, bool b_along_k, FetchA&& fetch_a,
              FetchB&& fetch_b, SeeA&& see_a = {}) {
    constexpr int kRows = Tile::kRows, kColumns = Tile::kColumns;
    constexpr int kThreadRows = Tile::kThreadRows, kThreadColumns = Tile::kThreadColumns;
    constexpr int kThreadsAcross = kColumns / kThreadColumns, kStageA = Tile::kStageA, kStage = Tile::kStage;
    constexpr bool kFolds = std::is_floating_point_v<Sum>;
    constexpr bool kSharedTotals = kTotalsAreShared<Sum, Tile>;

    Sum* const stages = reinterpret_cast<Sum*>(shared);              // (2, kStage)
    Sum* const results = stages + (kSharedTotals ? 2 * kStage : 0);  // else when the stages are done with

    // A warp is 4 x 8 threads of the tile: its reads of a stage are 64 and 128 neighbouring bytes.
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int thread_row = warp / (kThreadsAcross / 8) * 4 + lane / 8;
    const int thread_column = warp % (kThreadsAcross / 8) * 8 + lane % 8;
    const QuadPlace a_place = quad_place<kRows>(thread, a_along_k), b_place = quad_place<kColumns>(thread, b_along_k);

    Sum sums[kThreadRows][kThreadColumns] = {}, totals[kThreadRows][kThreadColumns] = {};
    const auto result_quad = [&](int r, int c) -> Quad<Sum>& {
        return *reinterpret_cast<Quad<Sum>*>(results + element<kRows, kThreadRows>(thread_row, r) * kColumns +
                                             element<kColumns, kThreadColumns>(thread_column, c));
    };
    if constexpr (kSharedTotals)
#pragma unroll
        for (int r = 0; r < kThreadRows; ++r)
#pragma unroll
            for (int c = 0; c < kThreadColumns; c += kQuad) result_quad(r, c) = Quad<Sum>{};
    if (steps > 0) {
        const auto qa = fetch_a(int64_t(0));
        const auto qb = fetch_b(int64_t(0));
        put<kRows>(stages, qa, a_along_k, a_place);
        put<kColumns>(stages + kStageA, qb, b_along_k, b_place);
        __syncthreads();
    }
    int until_fold = fold;
    for (int64_t step = 0; step < steps; ++step) {
        const Sum* const stage = stages + step % 2 * kStage;
        decltype(fetch_a(step)) qa;
        decltype(fetch_b(step)) qb;
        const bool more = step + 1 < steps;
        if (more) {
            qa = fetch_a(step + 1);
            qb = fetch_b(step + 1);
        }
#pragma unroll
        for (int i = 0; i < kProductStep; ++i) {
            Quad<Sum> fa[kThreadRows / kQuad], fb[kThreadColumns / kQuad];
#pragma unroll
            for (int j = 0; j < kThreadRows / kQuad; ++j)
                fa[j] = *reinterpret_cast<const Quad<Sum>*>(stage + i * (kRows + kProductPad) +
                                                            element<kRows, kThreadRows>(thread_row, j * kQuad));
#pragma unroll
            for (int j = 0; j < kThreadColumns / kQuad; ++j)
                fb[j] =
                    *reinterpret_cast<const Quad<Sum>*>(stage + kStageA + i * (kColumns + kProductPad) +
                                                        element<kColumns, kThreadColumns>(thread_column, j * kQuad));
#pragma unroll
            for (int r = 0; r < kThreadRows; ++r)
#pragma unroll
                for (int c = 0; c < kThreadColumns; ++c)
                    sums[r][c] += fa[r / kQuad].v[r % kQuad] * fb[c / kQuad].v[c % kQuad];
        }
        see_a(stage);
        if constexpr (kFolds) {
            until_fold -= kProductStep;
            if (until_fold <= 0 && more) {
                until_fold = fold;
#pragma unroll
                for (int r = 0; r < kThreadRows; ++r)
#pragma unroll
                    for (int c = 0; c < kThreadColumns; c += kQuad) {
                        if constexpr (kSharedTotals) {
                            Quad<Sum> total = result_quad(r, c);
#pragma unroll
                            for (int i = 0; i < kQuad; ++i) fold_into(total.v[i], sums[r][c + i]);
                            result_quad(r, c) = total;
                        } else {
#pragma unroll
                            for (int i = 0; i < kQuad; ++i) fold_into(totals[r][c + i], sums[r][c + i]);
                        }
                    }
            }
        }
        if (more) {  // the other stage: every thread has left it since the last barrier
            Sum* const next = stages + (step + 1) % 2 * kStage;
            put<kRows>(next, qa, a_along_k, a_place);
            put<kColumns>(next + kStageA, qb, b_along_k, b_place);
        }
        __syncthreads();
    }

    // Through shared memory: stores are then coalesced, and the epilogue is a loop whose code exists once.
#pragma unroll
    for (int r = 0; r < kThreadRows; ++r)
#pragma unroll
        for (int c = 0; c < kThreadColumns; c += kQuad) {
            Quad<Sum> result{};
            if constexpr (kSharedTotals) result = result_quad(r, c);
#pragma unroll
            for (int i = 0; i < kQuad; ++i)
                result.v[i] = (kSharedTotals ? result.v[i] : totals[r][c + i]) + sums[r][c + i];
            result_quad(r, c) = result;
        }
    __syncthreads();
    return results;
}
