// Convolutions on mma.sync (sm_80 and later): implicit matrix products whose operands are gathered by cp.async into the
// stages of device/mma_product.cuh, and whose results go through matmul's epilogue.
#pragma once
#include "../device/mma_product.cuh"
#include "conv_weight_grad_loader.cuh"

namespace conv_sm80 {

using namespace mma_product;

// Where a chunk of 16 bytes lies in a stage, for the loaders.
template <class Mine>
struct Stage {
    using Element = typename Mine::Element;
    static constexpr int kStep = mma_product::kStep, kThreads = Mine::kThreads;
    static constexpr int kRows = Mine::kRows, kColumns = Mine::kColumns;
    static constexpr int kRowBytes = Mine::kARow, kABytes = Mine::kABytes;
    static __device__ __forceinline__ int offset(int row, int chunk) {
        return chunk_offset<Element, kRowBytes, false>(row, chunk);
    }
    static __device__ __forceinline__ int a_offset(int pixel, int chunk) {
        return chunk_offset<Element, Mine::kARow, true>(pixel, chunk);
    }
    static __device__ __forceinline__ int b_offset(int pixel, int chunk) {
        return chunk_offset<Element, Mine::kBRow, true>(pixel, chunk);
    }
};

template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross>
__global__ void __launch_bounds__(kWarpsDown * kWarpsAcross * 32, 1)
conv_sm80_gather_kernel(GatherArguments x, GatherFinish finish, int width, int stages, int fold_steps) {
    using Mine = Tile<T, kRows, kColumns, kWarpsDown, kWarpsAcross, false, false>;
    GPU_SHARED(shared);  // (stages, kStage), then (staged rows, kColumns) results
    const GatherTiles tiles = gather_tiles(x, kRows, kColumns);
    for (int64_t t = blockIdx.x; t < tiles.count; t += gridDim.x) {
        Mine mine;
        {
            const GatherTile tile = gather_tile(x, tiles, t, kRows, kColumns);
            if (tile.row0 >= tile.rows) continue;
            GatherLoader<Stage<Mine>> loader(x, tile, width);
            multiply_steps(
                mine, shared, stages, gather_steps(x, tile, kStep), fold_steps, false, [&] { loader.begin(); },
                [&](int, unsigned char* stage) { loader.load(stage, true); }, [](const unsigned char*) {});
        }
        // Computed again: it is not held through the loop.
        const GatherTile tile = gather_tile(x, tiles, t, kRows, kColumns);
        ColumnMoments<float, kColumns, Mine::kThreads> moments(int(threadIdx.x));
        finish_results(
            mine, reinterpret_cast<float*>(shared), finish.runs.out,
            [&](int row, int column, auto& value) {
                finish_gathered<T>(x, finish, tile, uint32_t(tile.row0) + row, tile.column0 + column, value);
            },
            [&](int rows, auto tile_row, const float* staged) {
                if (x.moments)
                    see_gathered<T>(moments, x, tile, tile.column0, rows, staged,
                                    [&](int here) { return uint32_t(tile.row0) + tile_row(here) < tile.rows; });
            });
        if (x.moments)
            moments.leave(gather_moments<float>(x, tile, tile.row0 / kRows) + tile.column0, x.groups * x.each_out,
                          x.each_out - tile.column0);
        __syncthreads();  // the next tile's copies overwrite the results
    }
}

template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross>
void launch_gather(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream) {
    const int64_t blocks = std::min<int64_t>(gather_tiles(x, kRows, kColumns).count, config.max_blocks);
    gpu::launch<conv_sm80_gather_kernel<T, kRows, kColumns, kWarpsDown, kWarpsAcross>>(
        dim3(unsigned(blocks)), dim3(kWarpsDown * kWarpsAcross * 32),
        unsigned(mma_shared_bytes(kRows, kColumns, config.stages, int(sizeof(T)))), stream, x,
        gather_finish<T, kRun<T>>(x), copy_width(x.each_in, int(sizeof(T)), {x.source, x.weight}), config.stages,
        config.fold / kStep);
}

template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross>
__global__ void __launch_bounds__(kWarpsDown * kWarpsAcross * 32, 1)
conv_sm80_weight_grad_kernel(WeightGradArguments x, int splits, int a_width, int b_width, bool runs, int stages,
                             int fold_steps) {
    using Mine = Tile<T, kRows, kColumns, kWarpsDown, kWarpsAcross, true, true>;
    GPU_SHARED(shared);  // (stages, kStage), then (staged rows, kColumns) results
    const WeightGradTiles tiles(x.shape, splits, kRows, kColumns, kStep);
    for (int64_t t = blockIdx.x; t < tiles.count; t += gridDim.x) {
        const WeightGradTile tile = tiles.take(t, x.shape, kRows, kColumns);
        Mine mine;
        WeightGradLoader<Stage<Mine>> loader(x, tile, a_width, b_width);
        multiply_steps(
            mine, shared, stages, tile.steps(kStep), fold_steps, false, [&] { loader.begin(tile.first, tile.last); },
            [&](int, unsigned char* stage) { loader.load(stage, true); }, [](const unsigned char*) {});
        finish_results(mine, reinterpret_cast<float*>(shared), runs, [&](int row, int column, auto& value) {
            leave_weight_sums<T>(x, tiles, tile, tile.row0 + row, tile.column0 + column, value);
        });
        __syncthreads();  // the next tile's copies overwrite the results
    }
}

template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross>
void launch_weight_grad(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream) {
    const int item = int(sizeof(T));
    const WeightGradTiles tiles(x.shape, config.splits, kRows, kColumns, kStep);
    gpu::launch<conv_sm80_weight_grad_kernel<T, kRows, kColumns, kWarpsDown, kWarpsAcross>>(
        dim3(unsigned(std::min<int64_t>(tiles.count, config.max_blocks))), dim3(kWarpsDown * kWarpsAcross * 32),
        unsigned(mma_shared_bytes(kRows, kColumns, config.stages, item)), stream, x, config.splits,
        copy_width(tiles.filters, item, {x.grad}), copy_width(tiles.channels, item, {x.x}),
        weight_sums_in_runs(x, tiles, kRun<T>), config.stages, config.fold / kStep);
    add_weight_sums<T>(x, tiles, config.splits, stream);
}

}  // namespace conv_sm80
