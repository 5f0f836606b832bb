// The product of two operands by one block on mma.sync (sm_80 and later), from a ring of stages in shared memory that
// copies fill: what the sm80 families of matmul and conv are built around. They say where elements come from and what
// becomes of results; here is how they are multiplied.
//
// A stage holds both operands of 32 steps of k: rows of k where k is contiguous (kRows or kColumns rows of 32 elements),
// else rows of the outer dimension (32 rows of kRows or kColumns elements). Chunks of 16 bytes are permuted within their
// row (XOR), so that neither the copies in nor the reads of fragments meet in a bank. What lies outside of an operand is
// filled with zeros by those who copy.
//
// float32 is multiplied as 3xTF32: each number is the sum of two TF32 numbers, big + small, and small * small is dropped.
// Tensor cores truncate when they add, so every 32 terms start from sums of their own: first the small products, which
// lose little, then the big ones, and the result is added to a total by ordinary, compensated additions. Big + small of
// an infinity is NaN: a tile with a NaN in it is computed again by ordinary multiply-adds, from copies made again.
#pragma once
#include "../host/mma_stage.h"
#include "../ptx/sm80.h"
#include "block_product.cuh"
#include "staged_results.cuh"
#include <type_traits>

namespace mma_product {

constexpr int kStep = kMmaStep;

// How chunks of 16 bytes are permuted in a row of a stage: ldmatrix reads eight rows at one chunk, and loads of float32
// fragments from rows of the outer dimension four rows (k) at eight neighbours, each from 32 banks.
template <class T, int kRowBytes, bool kOuter>
__device__ __forceinline__ int swizzle(int row) {
    constexpr int kChunks = kRowBytes / 16, kMask = (kChunks < 8 ? kChunks : 8) - 1;
    constexpr int kShift = kRowBytes >= 128 ? 0 : kRowBytes == 64 ? 1 : 2;  // rows that share 128 bytes
    return (sizeof(T) == 4 && kOuter ? (row >> kShift) * 2 : row >> kShift) & kMask;
}

template <class T, int kRowBytes, bool kOuter>
__device__ __forceinline__ int chunk_offset(int row, int chunk) {
    return row * kRowBytes + ((chunk ^ swizzle<T, kRowBytes, kOuter>(row)) << 4);
}

// All but the newest `stages` - 2 steps have landed.
__device__ __forceinline__ void wait_for_stage(int stages) {
    switch (stages) {
        case 2: return ptx::cp_async_wait_group<0>();
        case 3: return ptx::cp_async_wait_group<1>();
        case 4: return ptx::cp_async_wait_group<2>();
        case 5: return ptx::cp_async_wait_group<3>();
        default: return ptx::cp_async_wait_group<4>();
    }
}

__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __half) {
    ptx::mma_m16n8k16_fp16(d, a, b);
}
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __nv_bfloat16) {
    ptx::mma_m16n8k16_bf16(d, a, b);
}
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], float) {
    ptx::mma_m16n8k8_tf32(d, a, b);
}

// big + small is x but for its last bit or so.
__device__ __forceinline__ void split(uint32_t raw, uint32_t& big, uint32_t& small) {
    const float x = __uint_as_float(raw);
    big = ptx::cvt_rna_tf32(x);
    small = ptx::cvt_rna_tf32(x - __uint_as_float(big));
}

// One warp's view of a stage, and its products. A slice is 32 bytes of k: one mma.
template <class T, int kRows_, int kColumns_, int kWarpsDown, int kWarpsAcross, bool kAOuter, bool kBOuter>
struct Tile {
    using Element = T;
    static constexpr int kRows = kRows_, kColumns = kColumns_;
    static constexpr int kThreads = kWarpsDown * kWarpsAcross * 32;
    static constexpr int kWarpRows = kRows / kWarpsDown, kWarpColumns = kColumns / kWarpsAcross;
    static constexpr int kDown = kWarpRows / 16, kAcross = kWarpColumns / 8;  // products of a warp
    static constexpr int kItem = int(sizeof(T)), kSliceK = 32 / kItem, kSlices = kStep / kSliceK;
    static constexpr int kARow = (kAOuter ? kRows : kStep) * kItem,
                         kBRow = (kBOuter ? kColumns : kStep) * kItem;  // bytes
    static constexpr int kABytes = kRows * kStep * kItem, kStage = kABytes + kColumns * kStep * kItem;
    static constexpr bool kFloat = sizeof(T) == 4;
    static_assert(kAcross % 2 == 0 && kDown >= 1, "ldmatrix reads two blocks of eight columns at once");

    float sums[kDown][kAcross][4];
    float totals[kFloat ? kDown : 1][kFloat ? kAcross : 1][4];

    // Offsets in a stage that belong to this lane; what depends on the slice and the block is added by constants. The
    // swizzle of a row is that of the lane's part of it: the rest is a multiple of 8 rows, or 16.
    int lane, warp_row, warp_column;

    __device__ __forceinline__ Tile() {
        lane = int(threadIdx.x) % 32;
        const int warp = int(threadIdx.x) / 32;
        warp_row = warp / kWarpsAcross * kWarpRows, warp_column = warp % kWarpsAcross * kWarpColumns;
    }

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < kDown; ++i)
#pragma unroll
            for (int j = 0; j < kAcross; ++j)
#pragma unroll
                for (int v = 0; v < 4; ++v) {
                    sums[i][j][v] = 0;
                    if constexpr (kFloat) totals[i][j][v] = 0;
                }
    }

    // What this thread adds to the sum of a row of `a` from a stage: thread r + kRows * part takes row r and a part of k, of
    // whole chunks. Threads beyond kRows * kSumParts have none.
    static constexpr int kSumParts = kThreads / kRows < kStep * kItem / 16 ? kThreads / kRows : kStep * kItem / 16;
    static __device__ __forceinline__ float row_sum(const unsigned char* stage) {
        constexpr int kPer = 16 / kItem, kTerms = kStep / kSumParts;
        const int thread = ptx::opaque(int(threadIdx.x)), row = thread % kRows, k0 = thread / kRows * kTerms;
        float sum = 0;
        if (k0 >= kStep) return sum;
        if constexpr (kAOuter) {  // a few at a time: registers are short
#pragma unroll 4
            for (int k = 0; k < kTerms; ++k)
                sum += convert<float>(*reinterpret_cast<const T*>(
                    stage + chunk_offset<T, kARow, true>(k0 + k, row / kPer) + row % kPer * kItem));
        } else {
#pragma unroll 1
            for (int k = 0; k < kTerms; k += kPer) {
                float some[kPer];
                load_run(some, reinterpret_cast<const T*>(stage + chunk_offset<T, kARow, false>(row, (k0 + k) / kPer)));
#pragma unroll
                for (int i = 0; i < kPer; ++i) sum += some[i];
            }
        }
        return sum;
    }

    __device__ __forceinline__ void load_a(uint32_t (&a)[kDown][4], const unsigned char* stage, int slice) const {
        if constexpr (!kAOuter) {
            const int row = lane % 16, swap = swizzle<T, kARow, kAOuter>(row);
            const unsigned char* const at = stage + (warp_row + row) * kARow + (((slice * 2 + lane / 16) ^ swap) << 4);
#pragma unroll
            for (int i = 0; i < kDown; ++i) ptx::ldmatrix_x4(a[i], at + i * 16 * kARow);
        } else if constexpr (!kFloat) {
            const int row = lane / 16 * 8 + lane % 8, swap = swizzle<T, kARow, kAOuter>(row);
            const unsigned char* const at = stage + (slice * 16 + row) * kARow;
#pragma unroll
            for (int i = 0; i < kDown; ++i)
                ptx::ldmatrix_x4_trans(a[i], at + (((warp_row / 8 + i * 2 + lane / 8 % 2) ^ swap) << 4));
        } else {
            const int row = lane % 4, swap = swizzle<T, kARow, kAOuter>(row), column = lane / 4;
            const unsigned char* const at = stage + (slice * 8 + row) * kARow + column % 4 * 4;
#pragma unroll
            for (int i = 0; i < kDown; ++i)
#pragma unroll
                for (int v = 0; v < 4; ++v)
                    a[i][v] = *reinterpret_cast<const uint32_t*>(
                        at + v / 2 * 4 * kARow + (((warp_row / 4 + i * 4 + v % 2 * 2 + column / 4) ^ swap) << 4));
        }
    }

    __device__ __forceinline__ void load_b(uint32_t (&b)[kAcross][2], const unsigned char* stage, int slice) const {
        stage += kABytes;
        if constexpr (!kBOuter) {
            const int row = lane % 8 + lane / 16 * 8, swap = swizzle<T, kBRow, kBOuter>(row);
            const unsigned char* const at =
                stage + (warp_column + row) * kBRow + (((slice * 2 + lane / 8 % 2) ^ swap) << 4);
#pragma unroll
            for (int j = 0; j < kAcross; j += 2)
                pair(b, j, [&](uint32_t (&r)[4]) { ptx::ldmatrix_x4(r, at + j * 8 * kBRow); });
        } else if constexpr (!kFloat) {
            const int row = lane % 16, swap = swizzle<T, kBRow, kBOuter>(row);
            const unsigned char* const at = stage + (slice * 16 + row) * kBRow;
#pragma unroll
            for (int j = 0; j < kAcross; j += 2)
                pair(b, j, [&](uint32_t (&r)[4]) {
                    ptx::ldmatrix_x4_trans(r, at + (((warp_column / 8 + j + lane / 16) ^ swap) << 4));
                });
        } else {
            const int row = lane % 4, swap = swizzle<T, kBRow, kBOuter>(row), column = lane / 4;
            const unsigned char* const at = stage + (slice * 8 + row) * kBRow + column % 4 * 4;
#pragma unroll
            for (int j = 0; j < kAcross; ++j)
#pragma unroll
                for (int v = 0; v < 2; ++v)
                    b[j][v] = *reinterpret_cast<const uint32_t*>(
                        at + v * 4 * kBRow + (((warp_column / 4 + j * 2 + column / 4) ^ swap) << 4));
        }
    }

    template <class F>
    static __device__ __forceinline__ void pair(uint32_t (&b)[kAcross][2], int j, F load) {
        uint32_t r[4];
        load(r);
        b[j][0] = r[0], b[j][1] = r[1], b[j + 1][0] = r[2], b[j + 1][1] = r[3];
    }

    __device__ __forceinline__ void multiply(const unsigned char* stage) {
#pragma unroll
        for (int slice = 0; slice < kSlices; ++slice) {
            uint32_t a[kDown][4], b[kAcross][2];
            load_a(a, stage, slice), load_b(b, stage, slice);
#pragma unroll
            for (int i = 0; i < kDown; ++i)
#pragma unroll
                for (int j = 0; j < kAcross; ++j) mma(sums[i][j], a[i], b[j], T{});
        }
    }

    // Products of the small halves with the big ones (kSmall), or of the big ones.
    template <bool kSmall>
    __device__ __forceinline__ void multiply_halves(const unsigned char* stage) {
#pragma unroll 1
        for (int slice = 0; slice < kSlices; ++slice) {
            uint32_t raw[kDown][4], b[kAcross][2], b_small[kAcross][2];
            load_b(b, stage, slice), load_a(raw, stage, slice);
#pragma unroll
            for (int j = 0; j < kAcross; ++j)
#pragma unroll
                for (int v = 0; v < 2; ++v) {
                    if (kSmall) split(b[j][v], b[j][v], b_small[j][v]);
                    else b[j][v] = ptx::cvt_rna_tf32(__uint_as_float(b[j][v]));
                }
#pragma unroll
            for (int i = 0; i < kDown; ++i) {
                uint32_t big[4], small[4];
#pragma unroll
                for (int v = 0; v < 4; ++v) {
                    if (kSmall) split(raw[i][v], big[v], small[v]);
                    else big[v] = ptx::cvt_rna_tf32(__uint_as_float(raw[i][v]));
                }
#pragma unroll
                for (int j = 0; j < kAcross; ++j) {
                    if (kSmall) mma(sums[i][j], small, b[j], T{}), mma(sums[i][j], big, b_small[j], T{});
                    else mma(sums[i][j], big, b[j], T{});
                }
            }
        }
    }

    // The same products by ordinary multiply-adds.
    __device__ __forceinline__ void multiply_exactly(const unsigned char* stage) {
        const auto element = [&](const unsigned char* at, auto row_bytes, auto outer_major, int outer, int k) {
            constexpr int kRowBytes = decltype(row_bytes)::value;
            constexpr bool kOuter = decltype(outer_major)::value;
            const int row = kOuter ? k : outer, column = kOuter ? outer : k;
            return *reinterpret_cast<const float*>(at + chunk_offset<T, kRowBytes, kOuter>(row, column / 4) +
                                                   column % 4 * 4);
        };
        const int lane = ptx::opaque(this->lane);
#pragma unroll 1
        for (int k = 0; k < kStep; ++k) {
            float b[kAcross][2];
#pragma unroll
            for (int j = 0; j < kAcross; ++j)
#pragma unroll
                for (int v = 0; v < 2; ++v)
                    b[j][v] = element(stage + kABytes, std::integral_constant<int, kBRow>(),
                                      std::bool_constant<kBOuter>(), warp_column + j * 8 + lane % 4 * 2 + v, k);
#pragma unroll
            for (int i = 0; i < kDown; ++i)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const float a = element(stage, std::integral_constant<int, kARow>(), std::bool_constant<kAOuter>(),
                                            warp_row + i * 16 + lane / 4 + half * 8, k);
#pragma unroll
                    for (int j = 0; j < kAcross; ++j)
#pragma unroll
                        for (int v = 0; v < 2; ++v)
                            sums[i][j][half * 2 + v] = fmaf(a, b[j][v], sums[i][j][half * 2 + v]);
                }
        }
    }

    __device__ __forceinline__ void fold() {
#pragma unroll
        for (int i = 0; i < kDown; ++i)
#pragma unroll
            for (int j = 0; j < kAcross; ++j)
#pragma unroll
                for (int v = 0; v < 4; ++v) fold_into(totals[i][j][v], sums[i][j][v]);
    }

    // Totals go into sums; whether any is NaN.
    __device__ __forceinline__ bool finish() {
        bool nan = false;
        if constexpr (kFloat) {
#pragma unroll
            for (int i = 0; i < kDown; ++i)
#pragma unroll
                for (int j = 0; j < kAcross; ++j)
#pragma unroll
                    for (int v = 0; v < 4; ++v) {
                        sums[i][j][v] = totals[i][j][v] + sums[i][j][v];
                        nan = nan || sums[i][j][v] != sums[i][j][v];
                    }
        }
        return nan;
    }

    // f(row, column, two neighbouring sums) for every pair this thread holds of m-blocks from kFirst to kLast - 1.
    template <int kFirst, int kLast, class F>
    __device__ __forceinline__ void each_pair(F f) const {
#pragma unroll
        for (int i = kFirst; i < kLast; ++i)
#pragma unroll
            for (int j = 0; j < kAcross; ++j)
#pragma unroll
                for (int half = 0; half < 2; ++half)
                    f(warp_row + i * 16 + half * 8 + lane / 4, warp_column + j * 8 + lane % 4 * 2,
                      Vector<float, 2>{{sums[i][j][half * 2], sums[i][j][half * 2 + 1]}});
    }
};

template <class T>
constexpr int kRun = 16 / int(sizeof(T));  // results that a thread finishes at once

template <int kRows, int kColumns>
constexpr int kStagedRows = mma_staged_rows(kRows, kColumns);

// mine.sums = the sums over `steps` steps of k, by all threads of the block, through a ring of `stages` in `shared`.
//   begin()            before the first copies; again where a tile of float32 is computed again
//   load(step, stage)  issues the copies of a step into a stage; once for every step, in order
//   also(stage)        what else is to be done with a step whose copies have landed
// The caller has a barrier between this and the next use of `shared`.
template <class Mine, class Begin, class Load, class Also>
__device__ __forceinline__ void multiply_steps(Mine& mine, unsigned char* shared, int stages, int steps, int fold_steps,
                                               bool tf32, Begin begin, Load load, Also also) {
#pragma unroll 1
    for (bool exactly = false;; exactly = true) {
        mine.clear();
        begin();
        const auto copy = [&](int step, int stage) {
            if (step < steps) load(step, shared + stage * Mine::kStage);
            ptx::cp_async_commit();
        };
#pragma unroll 1
        for (int s = 0; s < stages - 1; ++s) copy(s, s);
        int read = 0, write = stages - 1, until_fold = fold_steps;
#pragma unroll 1
        for (int step = 0; step < steps; ++step) {
            wait_for_stage(stages);
            __syncthreads();  // everyone's copies of this step have landed, and the stage read last is free
            copy(step + stages - 1, write);
            const unsigned char* const stage = shared + read * Mine::kStage;
            if constexpr (Mine::kFloat) {
                if (exactly) {
                    mine.multiply_exactly(stage);
                } else {
                    if (!tf32) mine.template multiply_halves<true>(stage);
                    mine.template multiply_halves<false>(stage);
                }
                if (--until_fold == 0) until_fold = fold_steps, mine.fold();
            } else {
                mine.multiply(stage);
            }
            also(stage);
            read = read + 1 == stages ? 0 : read + 1;
            write = write + 1 == stages ? 0 : write + 1;
        }
        ptx::cp_async_wait_all();
        const bool nan = mine.finish();
        if constexpr (Mine::kFloat) {
            if (!exactly && !tf32 && __syncthreads_or(nan)) continue;
        }
        return;
    }
}

// finish(row, column, value) for all results of the tile, through shared memory, so that neighbours are stored together:
// value is float[kRun] where `runs`, else float[1]. Begins with a barrier; the caller has one behind it.
// see(rows, tile_row, staged): once for each part of the tile, which lies at staged_index(here, column) for `rows` values
// of here, and is row tile_row(here) of the tile.
template <class Mine, class Finish, class See = SeesNoResults>
__device__ __forceinline__ void finish_results(const Mine& mine, float* staged, bool runs, Finish finish, See&& see = {}) {
    constexpr int kRows = Mine::kRows, kColumns = Mine::kColumns, kThreads = Mine::kThreads;
    constexpr int kAtOnce = kRun<typename Mine::Element>;
    constexpr int kStaged = kStagedRows<kRows, kColumns>, kPasses = kRows / kStaged;
    constexpr int kBlocks = Mine::kDown / kPasses, kPart = kBlocks * 16;  // a warp's m-blocks and rows in a pass
#pragma unroll 1
    for (int pass = 0; pass < kPasses; ++pass) {
        __syncthreads();  // stages, or results of the pass before, have been read
        const auto stage_pair = [&](int row, int column, const Vector<float, 2>& v) {
            const int here = row / Mine::kWarpRows * kPart + row % Mine::kWarpRows - pass * kPart;
            store_vector(staged + staged_index<kColumns>(here, column), v);
        };
        if (pass == 0) mine.template each_pair<0, kBlocks>(stage_pair);
        else if constexpr (kPasses > 1) mine.template each_pair<kBlocks, Mine::kDown>(stage_pair);
        __syncthreads();
        const auto tile_row = [&](int here) { return here / kPart * Mine::kWarpRows + pass * kPart + here % kPart; };
        if (runs) {
#pragma unroll 1
            for (int i = int(threadIdx.x); i < kStaged * kColumns / kAtOnce; i += kThreads) {
                const int here = i / (kColumns / kAtOnce), column = i % (kColumns / kAtOnce) * kAtOnce;
                float value[kAtOnce];
                read_staged(value, staged + staged_index<kColumns>(here, column));
                finish(tile_row(here), column, value);
            }
        } else {
#pragma unroll 1
            for (int i = int(threadIdx.x); i < kStaged * kColumns; i += kThreads) {
                const int here = i / kColumns, column = i % kColumns;
                float value[1] = {staged[staged_index<kColumns>(here, column)]};
                finish(tile_row(here), column, value);
            }
        }
        see(kStaged, tile_row, staged);
    }
}

}  // namespace mma_product
