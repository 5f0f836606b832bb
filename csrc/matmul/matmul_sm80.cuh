// Matrix products on mma.sync (sm_80 and later): cp.async into a ring of stages, ldmatrix, tensor cores, one barrier a step.
//
// A stage (device/mma_product.cuh, which also says how float32 is multiplied) holds both operands as they lie in global
// memory; what lies outside a matrix is filled with zeros.
//
// A block takes segments: a tile of a product and a range of its steps along k. A segment that is a whole tile goes through
// the epilogue; parts of tiles (split-K, stream-K) leave their sums in the workspace, and a second kernel adds them in the
// order of k. No block ever waits for another: no flags to clear, no limit on the grid, and the order of sums is fixed.
#pragma once
#include "../device/mma_operand.cuh"
#include "matmul_epilogue.cuh"
#include "matmul_sm80_config.h"

namespace matmul_sm80 {

using namespace mma_product;

// Both operands' parts of a step into a stage.
template <class Mine, bool kAOuter, bool kBOuter, class T>
__device__ __forceinline__ void load_stage(unsigned char* stage, const Operand<T>& a, const T* a_data, const Operand<T>& b, const T* b_data,
                                           int64_t row0, int64_t column0, int64_t k0) {
    load_tile<T, kAOuter ? kStep : Mine::kRows, Mine::kARow, kAOuter, Mine::kThreads>(stage, a, a_data, kAOuter ? k0 : row0, kAOuter ? row0 : k0);
    load_tile<T, kBOuter ? kStep : Mine::kColumns, Mine::kBRow, kBOuter, Mine::kThreads>(stage + Mine::kABytes, b, b_data, kBOuter ? k0 : column0,
                                                                                         kBOuter ? column0 : k0);
}

template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross, bool kAOuter, bool kBOuter>
__global__ void __launch_bounds__(kWarpsDown* kWarpsAcross * 32, 1)
matmul_sm80_kernel(MatmulArguments x, Operand<T> a, Operand<T> b, MatmulSm80Work work, int stages, int fold_steps, MatmulRuns runs) {
    using Mine = Tile<T, kRows, kColumns, kWarpsDown, kWarpsAcross, kAOuter, kBOuter>;
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
        const auto load = [&](int step, unsigned char* stage) {
            load_stage<Mine, kAOuter, kBOuter>(stage, a, a_data, b, b_data, row0, column0, int64_t(from + step) * kStep);
        };
        multiply_steps(mine, shared, stages, steps, fold_steps, x.tf32, [&] { row_total = row_rest = 0; }, load, [&](const unsigned char* stage) {
            if (sums_rows) row_rest += Mine::row_sum(stage), fold_into(row_total, row_rest);
        });

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
        finish_results(mine, staged, runs.out, [&](int tile_row, int tile_column, auto& value) {
            const int64_t row = row0 + tile_row, column = column0 + tile_column;
            if (row < x.m && column < x.n) matmul_finish_run<T>(x, runs, at, product, row, column, value);
        });
        __syncthreads();                 // the next segment's copies overwrite the results
    }
}

// Results that a thread of the second pass has: it reads as many floats, and a warp then whole sectors.
constexpr int kSumRun = 4;

// The second pass: the parts of every divided tile, added in the order of k, and the epilogue.
template <class T>
__global__ void __launch_bounds__(256) matmul_sm80_sum_kernel(MatmulArguments x, MatmulSm80Work work, int rows, int columns, MatmulRuns runs) {
    const int64_t per_tile = int64_t(rows) * columns / kSumRun, all = work.tiles * per_tile;
    for (int64_t n = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; n < all; n += int64_t(gridDim.x) * blockDim.x) {
        const int64_t tile = n / per_tile, per_product = work.tiles_down * work.tiles_across, product = tile / per_product;
        const int in_tile = int(n - tile * per_tile) * kSumRun, here = in_tile / columns, c = in_tile % columns;
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
        float value[kSumRun] = {}, rest[kSumRun] = {}, row_value = 0, row_rest = 0;
        const bool sums_rows = x.row_sums && column == 0;
        for (int64_t part = 0; part < parts; ++part, slot += step) {
            if (work.stream_blocks && part > 0 && part % 2 == 0) continue;        // odd slots belong to the next tile
            const float* const partial = static_cast<const float*>(x.workspace) + slot * work.slot_floats;
            float more[kSumRun];
            load_run(more, partial + in_tile);
#pragma unroll
            for (int i = 0; i < kSumRun; ++i) rest[i] += more[i], fold_into(value[i], rest[i]);
            if (sums_rows) row_rest += partial[rows * columns + here], fold_into(row_value, row_rest);
        }
#pragma unroll
        for (int i = 0; i < kSumRun; ++i) value[i] += rest[i];
        if (sums_rows) static_cast<T*>(x.row_sums)[product * x.m + row] = convert<T>(row_value + row_rest);
        const MatmulOffsets at = matmul_offsets(x, product);
        if (runs.out) {
            matmul_finish_run<T>(x, runs, at, product, row, column, value);
            continue;
        }
#pragma unroll
        for (int i = 0; i < kSumRun; ++i) {
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
    const int64_t runs_of_tiles = work.tiles * kRows * kColumns / kSumRun;
    gpu::launch<matmul_sm80_sum_kernel<T>>(dim3(unsigned(std::min<int64_t>((runs_of_tiles + 255) / 256, 1 << 20))), dim3(256), 0, stream,
                                           x, work, kRows, kColumns, matmul_runs<T, kSumRun>(x));
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
