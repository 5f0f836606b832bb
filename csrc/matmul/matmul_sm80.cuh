// Matrix products on mma.sync (sm_80 and later): cp.async into a ring of stages, ldmatrix, tensor cores, one barrier a step.
//
// A stage holds both operands as they lie in global memory: rows of k where k is contiguous (BM or BN rows of 32 elements),
// else rows of the outer dimension (32 rows of BM or BN elements). Chunks of 16 bytes are permuted within their row (XOR),
// so that neither the copies in nor the reads of fragments meet in a bank. What lies outside a matrix is filled with
// zeros.
//
// A block takes segments: a tile of a product and a range of its steps along k. A segment that is a whole tile goes through
// the epilogue; parts of tiles (split-K, stream-K) leave their sums in the workspace, and a second kernel adds them in the
// order of k. No block ever waits for another: no flags to clear, no limit on the grid, and the order of sums is fixed.
//
// float32 is multiplied as 3xTF32: each number is the sum of two TF32 numbers, big + small, and small * small is dropped.
// Tensor cores truncate when they add, so every 32 terms start from sums of their own: first the small products, which lose
// little, then the big ones, and the result is added to a total by ordinary, compensated additions. Big + small of an
// infinity is NaN: a tile with a NaN in it is computed again by ordinary multiply-adds, from the same stages.
#pragma once
#include "../device/block_product.cuh"
#include "../ptx/sm80.h"
#include "matmul_epilogue.cuh"
#include "matmul_sm80_config.h"
#include <type_traits>

namespace matmul_sm80 {

constexpr int kStep = kMatmulSm80Step;

// An operand as rows of neighbours, which is how a stage holds it.
template <class T>
struct Operand {
    const T* data;
    int64_t rows, columns;               // columns are neighbours
    int64_t row_stride, column_stride;   // column_stride is 1 unless copy is 0
    int copy;                            // bytes that may be copied at once: 16, 8 or 4; 0: single elements
};

// How chunks of 16 bytes are permuted in a row of a stage: ldmatrix reads eight rows at one chunk, and loads of float32
// fragments from rows of the outer dimension four rows (k) at eight neighbours, each from 32 banks.
template <class T, int kRowBytes, bool kOuter>
__device__ __forceinline__ int swizzle(int row) {
    constexpr int kChunks = kRowBytes / 16, kMask = (kChunks < 8 ? kChunks : 8) - 1;
    constexpr int kShift = kRowBytes >= 128 ? 0 : kRowBytes == 64 ? 1 : 2;        // rows that share 128 bytes
    return (sizeof(T) == 4 && kOuter ? (row >> kShift) * 2 : row >> kShift) & kMask;
}

template <class T, int kRowBytes, bool kOuter>
__device__ __forceinline__ int chunk_offset(int row, int chunk) {
    return row * kRowBytes + ((chunk ^ swizzle<T, kRowBytes, kOuter>(row)) << 4);
}

// Rows row0 to row0 + kRows - 1 and the columns from column0 into a stage, by all threads of the block.
template <class T, int kRows, int kRowBytes, bool kOuter, int kThreads>
__device__ __forceinline__ void load_tile(unsigned char* to, const Operand<T>& from, const T* data, int64_t row0, int64_t column0) {
    constexpr int kChunks = kRowBytes / 16, kPer = 16 / int(sizeof(T)), kAll = kRows * kChunks;
    if (from.copy == 16) {
        // The addresses of four copies and more would be held through the loop, for which there are no registers.
        constexpr bool kMany = kAll / kThreads >= 4;
        const int thread = kMany ? ptx::opaque(int(threadIdx.x)) : int(threadIdx.x);
#pragma unroll
        for (int i = 0; i < (kAll + kThreads - 1) / kThreads; ++i) {
            const int index = i * kThreads + thread, row = index / kChunks, chunk = index % kChunks;
            if (kAll % kThreads && index >= kAll) break;
            const int64_t left = from.columns - column0 - chunk * kPer;
            const bool inside = row0 + row < from.rows && left > 0;
            const T* const source = data + (row0 + row) * from.row_stride + column0 + chunk * kPer;
            ptx::cp_async_16_cg(to + chunk_offset<T, kRowBytes, kOuter>(row, chunk), inside ? source : data,
                                !inside ? 0 : left < kPer ? int(left) * int(sizeof(T)) : 16);
        }
        return;
    }
#pragma unroll 1
    for (int index = ptx::opaque(int(threadIdx.x)); index < kAll; index += kThreads) {
        const int row = index / kChunks, chunk = index % kChunks;
        const int64_t all = from.columns - column0 - chunk * kPer;
        const int left = row0 + row < from.rows && all > 0 ? int(all < kPer ? all : kPer) : 0;
        const T* const source = data + (row0 + row) * from.row_stride + (column0 + chunk * kPer) * from.column_stride;
        unsigned char* const target = to + chunk_offset<T, kRowBytes, kOuter>(row, chunk);
        if (from.copy) {
            for (int at = 0; at < 16; at += from.copy) {
                const int bytes = min(max(left * int(sizeof(T)) - at, 0), from.copy);
                const void* const piece = bytes ? reinterpret_cast<const unsigned char*>(source) + at : reinterpret_cast<const unsigned char*>(data);
                if (from.copy == 8) ptx::cp_async_8(target + at, piece, bytes);
                else ptx::cp_async_4(target + at, piece, bytes);
            }
        } else {
            Vector<T, kPer> v;
#pragma unroll
            for (int i = 0; i < kPer; ++i) v[i] = i < left ? source[i * from.column_stride] : T(0.0f);
            store_vector(reinterpret_cast<T*>(target), v);
        }
    }
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

__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __half) { ptx::mma_m16n8k16_fp16(d, a, b); }
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], __nv_bfloat16) { ptx::mma_m16n8k16_bf16(d, a, b); }
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], float) { ptx::mma_m16n8k8_tf32(d, a, b); }

// big + small is x but for its last bit or so.
__device__ __forceinline__ void split(uint32_t raw, uint32_t& big, uint32_t& small) {
    const float x = __uint_as_float(raw);
    big = ptx::cvt_rna_tf32(x);
    small = ptx::cvt_rna_tf32(x - __uint_as_float(big));
}

// One warp's view of a stage, and its products. A slice is 32 bytes of k: one mma.
template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross, bool kAOuter, bool kBOuter>
struct Tile {
    static constexpr int kThreads = kWarpsDown * kWarpsAcross * 32;
    static constexpr int kWarpRows = kRows / kWarpsDown, kWarpColumns = kColumns / kWarpsAcross;
    static constexpr int kDown = kWarpRows / 16, kAcross = kWarpColumns / 8;      // products of a warp
    static constexpr int kItem = int(sizeof(T)), kSliceK = 32 / kItem, kSlices = kStep / kSliceK;
    static constexpr int kARow = (kAOuter ? kRows : kStep) * kItem, kBRow = (kBOuter ? kColumns : kStep) * kItem;    // bytes
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
        if constexpr (kAOuter) {         // a few at a time: registers are short
#pragma unroll 4
            for (int k = 0; k < kTerms; ++k)
                sum += convert<float>(*reinterpret_cast<const T*>(stage + chunk_offset<T, kARow, true>(k0 + k, row / kPer) + row % kPer * kItem));
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

    static __device__ __forceinline__ void load_stage(unsigned char* stage, const Operand<T>& a, const T* a_data, const Operand<T>& b,
                                                      const T* b_data, int64_t row0, int64_t column0, int64_t k0) {
        load_tile<T, kAOuter ? kStep : kRows, kARow, kAOuter, kThreads>(stage, a, a_data, kAOuter ? k0 : row0, kAOuter ? row0 : k0);
        load_tile<T, kBOuter ? kStep : kColumns, kBRow, kBOuter, kThreads>(stage + kABytes, b, b_data, kBOuter ? k0 : column0,
                                                                           kBOuter ? column0 : k0);
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
            const unsigned char* const at = stage + (warp_column + row) * kBRow + (((slice * 2 + lane / 8 % 2) ^ swap) << 4);
#pragma unroll
            for (int j = 0; j < kAcross; j += 2) pair(b, j, [&](uint32_t (&r)[4]) { ptx::ldmatrix_x4(r, at + j * 8 * kBRow); });
        } else if constexpr (!kFloat) {
            const int row = lane % 16, swap = swizzle<T, kBRow, kBOuter>(row);
            const unsigned char* const at = stage + (slice * 16 + row) * kBRow;
#pragma unroll
            for (int j = 0; j < kAcross; j += 2)
                pair(b, j, [&](uint32_t (&r)[4]) { ptx::ldmatrix_x4_trans(r, at + (((warp_column / 8 + j + lane / 16) ^ swap) << 4)); });
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
            return *reinterpret_cast<const float*>(at + chunk_offset<T, kRowBytes, kOuter>(row, column / 4) + column % 4 * 4);
        };
        const int lane = ptx::opaque(this->lane);
#pragma unroll 1
        for (int k = 0; k < kStep; ++k) {
            float b[kAcross][2];
#pragma unroll
            for (int j = 0; j < kAcross; ++j)
#pragma unroll
                for (int v = 0; v < 2; ++v)
                    b[j][v] = element(stage + kABytes, std::integral_constant<int, kBRow>(), std::bool_constant<kBOuter>(),
                                      warp_column + j * 8 + lane % 4 * 2 + v, k);
#pragma unroll
            for (int i = 0; i < kDown; ++i)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const float a = element(stage, std::integral_constant<int, kARow>(), std::bool_constant<kAOuter>(),
                                            warp_row + i * 16 + lane / 4 + half * 8, k);
#pragma unroll
                    for (int j = 0; j < kAcross; ++j)
#pragma unroll
                        for (int v = 0; v < 2; ++v) sums[i][j][half * 2 + v] = fmaf(a, b[j][v], sums[i][j][half * 2 + v]);
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
constexpr int kRun = 16 / int(sizeof(T));                  // results that a thread finishes at once

template <int kRows, int kColumns>
constexpr int kStagedRows = matmul_sm80_staged_rows(kRows, kColumns);

template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross, bool kAOuter, bool kBOuter>
__global__ void __launch_bounds__(kWarpsDown* kWarpsAcross * 32, 1)
matmul_sm80_kernel(MatmulArguments x, Operand<T> a, Operand<T> b, MatmulSm80Work work, int stages, int fold_steps, MatmulRuns runs) {
    using Mine = Tile<T, kRows, kColumns, kWarpsDown, kWarpsAcross, kAOuter, kBOuter>;
    constexpr int kThreads = Mine::kThreads;
    GPU_SHARED(shared);                  // (stages, kStage), then (staged rows, kColumns) results
    float* const staged = reinterpret_cast<float*>(shared);

    const auto stream_begin = [&](int64_t block) { return work.tiles * work.steps * block / work.stream_blocks; };
    for (unsigned done = 0;;) {          // steps (stream-K) or jobs of this block that lie behind it
        const int block = ptx::opaque(int(blockIdx.x));    // what follows from it is not held through the loop
        int tile, from, steps, slot = -1;                  // steps from `from` on of the tile; slot -1: all it has
        if (work.stream_blocks) {
            const int64_t next = stream_begin(block) + done, end = stream_begin(block + 1);
            if (next >= end) break;
            tile = int(next / work.steps), from = int(next - tile * work.steps);
            steps = int(min(work.steps - from, end - next));
            if (steps < work.steps) slot = 2 * block + (from == 0);
            done += steps;
        } else {
            const int64_t next = int64_t(block) + done;
            if (next >= work.tiles * work.split) break;
            const int64_t part = next / work.tiles;
            tile = int(next % work.tiles), from = int(work.steps * part / work.split);
            steps = int(work.steps * (part + 1) / work.split) - from;
            if (work.split > 1) slot = int(next);
            done += gridDim.x;
        }
        const int64_t per_product = work.tiles_down * work.tiles_across;
        const MatmulPosition position = matmul_position(tile % per_product, work.tiles_down, work.tiles_across);
        const int64_t row0 = position.row * kRows, column0 = position.column * kColumns;
        const T *a_data = a.data, *b_data = b.data;
        {
            const MatmulOffsets at = matmul_offsets(x, tile / per_product);
            a_data += at.a, b_data += at.b;
        }

        Mine mine;
        const bool sums_rows = x.row_sums && position.column == 0;
        float row_total = 0, row_rest = 0;                 // of a part of a row, and what additions lost
#pragma unroll 1
        for (bool exactly = false;; exactly = true) {
            mine.clear();
            row_total = row_rest = 0;
            const auto load = [&](int step, int stage) {
                if (step < steps) Mine::load_stage(shared + stage * Mine::kStage, a, a_data, b, b_data, row0, column0, int64_t(from + step) * kStep);
                ptx::cp_async_commit();
            };
#pragma unroll 1
            for (int s = 0; s < stages - 1; ++s) load(s, s);
            int read = 0, write = stages - 1, until_fold = fold_steps;
#pragma unroll 1
            for (int step = 0; step < steps; ++step) {
                wait_for_stage(stages);
                __syncthreads();         // everyone's copies of this step have landed, and the stage read last is free
                load(step + stages - 1, write);
                const unsigned char* const stage = shared + read * Mine::kStage;
                if constexpr (Mine::kFloat) {
                    if (exactly) {
                        mine.multiply_exactly(stage);
                    } else {
                        if (!x.tf32) mine.template multiply_halves<true>(stage);
                        mine.template multiply_halves<false>(stage);
                    }
                    if (--until_fold == 0) until_fold = fold_steps, mine.fold();
                } else {
                    mine.multiply(stage);
                }
                if (sums_rows) row_rest += Mine::row_sum(stage), fold_into(row_total, row_rest);
                read = read + 1 == stages ? 0 : read + 1;
                write = write + 1 == stages ? 0 : write + 1;
            }
            ptx::cp_async_wait_all();
            const bool nan = mine.finish();
            if constexpr (Mine::kFloat) {
                if (!exactly && !x.tf32 && __syncthreads_or(nan)) continue;
            }
            break;
        }

        const int64_t product = ptx::opaque(tile) / per_product;    // not held through the loop
        float* const partial = slot < 0 ? nullptr : static_cast<float*>(x.workspace) + slot * work.slot_floats;
        if (sums_rows) {                 // the parts of each row, in the order of k
            __syncthreads();
            if (threadIdx.x < kRows * Mine::kSumParts) staged[threadIdx.x] = row_total + row_rest;
            __syncthreads();
            if (const int row = int(threadIdx.x); row < kRows) {
                float total = staged[row];
                for (int i = 1; i < Mine::kSumParts; ++i) total += staged[i * kRows + row];
                if (partial) partial[kRows * kColumns + row] = total;
                else if (row0 + row < x.m) static_cast<T*>(x.row_sums)[product * x.m + row0 + row] = convert<T>(total);
            }
        }
        if (partial) {                   // (kRows, kColumns), then (kRows,) sums of rows
            mine.template each_pair<0, Mine::kDown>(
                [&](int row, int column, const Vector<float, 2>& v) { store_vector(partial + row * kColumns + column, v); });
            __syncthreads();             // the next segment's copies overwrite what others still read
            continue;
        }

        const MatmulOffsets at = matmul_offsets(x, product);
        constexpr int kStaged = kStagedRows<kRows, kColumns>, kPasses = kRows / kStaged;
        constexpr int kBlocks = Mine::kDown / kPasses, kPart = kBlocks * 16;    // a warp's m-blocks and rows in a pass
#pragma unroll 1
        for (int pass = 0; pass < kPasses; ++pass) {
            __syncthreads();             // stages, or results of the pass before, have been read
            const auto stage_pair = [&](int row, int column, const Vector<float, 2>& v) {
                const int here = row / Mine::kWarpRows * kPart + row % Mine::kWarpRows - pass * kPart;
                store_vector(staged + matmul_staged_index<kColumns>(here, column), v);
            };
            if (pass == 0) mine.template each_pair<0, kBlocks>(stage_pair);
            else if constexpr (kPasses > 1) mine.template each_pair<kBlocks, Mine::kDown>(stage_pair);
            __syncthreads();
            const auto tile_row = [&](int here) { return here / kPart * Mine::kWarpRows + pass * kPart + here % kPart; };
            if (runs.out) {
#pragma unroll 1
                for (int i = int(threadIdx.x); i < kStaged * kColumns / kRun<T>; i += kThreads) {
                    const int here = i / (kColumns / kRun<T>), c = i % (kColumns / kRun<T>) * kRun<T>;
                    const int64_t row = row0 + tile_row(here), column = column0 + c;
                    if (row >= x.m || column >= x.n) continue;
                    float value[kRun<T>];
                    matmul_read_staged(value, staged + matmul_staged_index<kColumns>(here, c));
                    matmul_finish_run<T>(x, runs, at, product, row, column, value);
                }
            } else {
#pragma unroll 1
                for (int i = int(threadIdx.x); i < kStaged * kColumns; i += kThreads) {
                    const int here = i / kColumns, c = i % kColumns;
                    const int64_t row = row0 + tile_row(here), column = column0 + c;
                    if (row >= x.m || column >= x.n) continue;
                    float value[1] = {staged[matmul_staged_index<kColumns>(here, c)]};
                    matmul_finish_run<T>(x, MatmulRuns{}, at, product, row, column, value);
                }
            }
        }
        __syncthreads();                 // the next segment's copies overwrite the results
    }
}

// The second pass: the parts of every divided tile, added in the order of k, and the epilogue.
template <class T>
__global__ void __launch_bounds__(256) matmul_sm80_sum_kernel(MatmulArguments x, MatmulSm80Work work, int rows, int columns, MatmulRuns runs) {
    const int64_t per_tile = int64_t(rows) * columns / kRun<T>, all = work.tiles * per_tile;
    for (int64_t n = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; n < all; n += int64_t(gridDim.x) * blockDim.x) {
        const int64_t tile = n / per_tile, per_product = work.tiles_down * work.tiles_across, product = tile / per_product;
        const int in_tile = int(n - tile * per_tile) * kRun<T>, here = in_tile / columns, c = in_tile % columns;
        const MatmulPosition position = matmul_position(tile % per_product, work.tiles_down, work.tiles_across);
        const int64_t row = position.row * rows + here, column = position.column * columns + c;

        // Parts lie `step` slots apart; a block of stream-K has its first segment in an even slot unless that is the
        // beginning of a tile, and its last in an odd one.
        int64_t slot = tile, step = work.tiles, parts = work.split;
        if (work.stream_blocks) {
            const int64_t first = tile * work.steps, last = first + work.steps - 1, total = work.tiles * work.steps;
            const auto block_of = [&](int64_t at) { return ((at + 1) * work.stream_blocks - 1) / total; };
            const int64_t block = block_of(first), last_block = block_of(last);
            if (block == last_block) continue;             // one block did it all
            slot = 2 * block + 1, step = 1, parts = 2 * (last_block - block);
        }
        if (row >= x.m || column >= x.n) continue;
        float value[kRun<T>] = {}, rest[kRun<T>] = {}, row_value = 0, row_rest = 0;
        const bool sums_rows = x.row_sums && column == 0;
        for (int64_t part = 0; part < parts; ++part, slot += step) {
            if (work.stream_blocks && part > 0 && part % 2 == 0) continue;        // odd slots belong to the next tile
            const float* const partial = static_cast<const float*>(x.workspace) + slot * work.slot_floats;
            float more[kRun<T>];
            load_run(more, partial + in_tile);
#pragma unroll
            for (int i = 0; i < kRun<T>; ++i) rest[i] += more[i], fold_into(value[i], rest[i]);
            if (sums_rows) row_rest += partial[rows * columns + here], fold_into(row_value, row_rest);
        }
#pragma unroll
        for (int i = 0; i < kRun<T>; ++i) value[i] += rest[i];
        if (sums_rows) static_cast<T*>(x.row_sums)[product * x.m + row] = convert<T>(row_value + row_rest);
        const MatmulOffsets at = matmul_offsets(x, product);
        if (runs.out) {
            matmul_finish_run<T>(x, runs, at, product, row, column, value);
            continue;
        }
#pragma unroll
        for (int i = 0; i < kRun<T>; ++i) {
            float one[1] = {value[i]};
            if (column + i < x.n) matmul_finish_run<T>(x, MatmulRuns{}, at, product, row, column + i, one);
        }
    }
}

template <class T, bool kOuter>
Operand<T> operand(const void* data, const MatmulOperand& layout, int64_t outer, int64_t k, int64_t outer_stride, int64_t k_stride) {
    Operand<T> o{static_cast<const T*>(data), outer, k, outer_stride, k_stride, 0};
    if (kOuter) o = {static_cast<const T*>(data), k, outer, k_stride, outer_stride, 0};
    if (layout.major == MatmulMajor::none) return o;
    o.column_stride = 1;                 // a single column's stride may be anything
    o.copy = layout.alignment >= 4 ? layout.alignment : 0;
    return o;
}

template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross, bool kAOuter, bool kBOuter>
void launch(const MatmulArguments& x, const MatmulConfig& config, const MatmulOperand& a, const MatmulOperand& b, DType dtype, cudaStream_t stream) {
    int64_t batch = 1;
    for (int d = 0; d < x.batch_rank; ++d) batch *= x.batch_shape[d];
    const MatmulSm80Work work = matmul_sm80_work(config, batch, x.m, x.n, x.k, x.row_sums != nullptr);
    if (!work.tiles) return;
    const MatmulRuns runs = matmul_runs<T, kRun<T>>(x);
    const int64_t blocks = work.stream_blocks ? work.stream_blocks : std::min<int64_t>(work.tiles * work.split, config.max_blocks);
    gpu::launch<matmul_sm80_kernel<T, kRows, kColumns, kWarpsDown, kWarpsAcross, kAOuter, kBOuter>>(
        dim3(unsigned(blocks)), dim3(kWarpsDown * kWarpsAcross * 32), unsigned(matmul_sm80_shared_bytes(config, dtype)), stream, x,
        operand<T, kAOuter>(x.a, a, x.m, x.k, x.a_row, x.a_k), operand<T, kBOuter>(x.b, b, x.n, x.k, x.b_column, x.b_k), work,
        config.stages, std::max(1, config.fold / kStep), runs);
    if (!work.slots()) return;
    const int64_t runs_of_tiles = work.tiles * kRows * kColumns / kRun<T>;
    gpu::launch<matmul_sm80_sum_kernel<T>>(dim3(unsigned(std::min<int64_t>((runs_of_tiles + 255) / 256, 1 << 20))), dim3(256), 0, stream,
                                           x, work, kRows, kColumns, runs);
}

template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross>
void launch(const MatmulArguments& x, const MatmulConfig& config, DType dtype, cudaStream_t stream) {
    int64_t a_batch[kMatmulBatchRank], b_batch[kMatmulBatchRank];
    int rank = 0;
    for (int d = 0; d < x.batch_rank; ++d)
        if (x.batch_shape[d] > 1) a_batch[rank] = x.a_batch[d], b_batch[rank++] = x.b_batch[d];
    const auto layout = [&](const void* data, int64_t outer, int64_t outer_stride, int64_t k_stride, const int64_t* strides) {
        return matmul_operand(reinterpret_cast<uintptr_t>(data), outer, x.k, outer_stride, k_stride, strides, rank, int(sizeof(T)));
    };
    const MatmulOperand a = layout(x.a, x.m, x.a_row, x.a_k, a_batch), b = layout(x.b, x.n, x.b_column, x.b_k, b_batch);
    const auto run = [&](auto a_outer, auto b_outer) {
        launch<T, kRows, kColumns, kWarpsDown, kWarpsAcross, a_outer.value, b_outer.value>(x, config, a, b, dtype, stream);
    };
    const bool a_outer = a.major == MatmulMajor::outer, b_outer = b.major == MatmulMajor::outer;
    if (a_outer && b_outer) return run(std::true_type(), std::true_type());
    if (a_outer) return run(std::true_type(), std::false_type());
    if (b_outer) return run(std::false_type(), std::true_type());
    run(std::false_type(), std::false_type());
}

}  // namespace matmul_sm80
