// Convolutions on wgmma (sm_90a): implicit matrix products around matmul's ring of stages. A producer warpgroup gathers
// pixels by cp.async into the swizzled tiles that wgmma reads, TMA brings the operand that is a plain matrix where its
// rows begin at multiples of 16 bytes (else the producer's threads copy it, too), and consumer warpgroups multiply, then
// take their sums out while the producer already fills the stages of the next tile.
//
// The plain matrix is the weights where windows slide over images: rows of (place, channel), of which a step is 64
// neighbours, unless a phase of an input's gradient skips places and a place's channels end within a step. In a weight's
// gradient it is the results' gradients.
#pragma once
#include "../matmul/matmul_sm90_results.cuh"
#include "conv_weight_grad_loader.cuh"

namespace conv_sm90 {

using namespace matmul_sm90;

// Where a chunk of 16 bytes lies in a stage, for the loaders.
template <class T, class Mine>
struct Stage {
    using Element = T;
    static constexpr int kStep = matmul_sm90::kStep, kThreads = 128;
    static constexpr int kRows = Mine::kRows, kColumns = Mine::kColumns;
    static constexpr int kRowBytes = matmul_sm90::kRowBytes, kABytes = Mine::kABytes;
    static __device__ __forceinline__ int offset(int row, int chunk) {
        return row * kRowBytes + ((chunk ^ (row & 7)) << 4);
    }
    static __device__ __forceinline__ int a_offset(int pixel, int chunk) {
        return chunk / 8 * kBox + offset(pixel, chunk % 8);
    }
    static __device__ __forceinline__ int b_offset(int pixel, int chunk) { return a_offset(pixel, chunk); }
};

// Registers of the producer's threads, which hold a window for each of their rows, and of the consumers': together what
// the launch gave them.
constexpr int kProducerRegisters = 88, kConsumerRegisters = 208;

template <class T, int kDown, int kAcross, int kN>
__global__ void __launch_bounds__(Tile<kDown, kAcross, kN>::kThreads, 1)
conv_sm90_gather_kernel(const __grid_constant__ GatherArguments x, const __grid_constant__ GatherFinish finish,
                        int width, int stages, bool weights_by_tma, const __grid_constant__ ptx::TensorMap weights) {
#ifdef FASTNET_SM90A
    using Mine = Tile<kDown, kAcross, kN>;
    GPU_SHARED(shared);  // as matmul's: (stages, kStage), (kConsumers, staging), (2, stages) mbarriers
    Ring ring = Mine::ring(shared, stages);
    if (threadIdx.x == 0) ring.init(4 + weights_by_tma, 4 * Mine::kConsumers);
    __syncthreads();
    const GatherTiles tiles = gather_tiles(x, Mine::kRows, Mine::kColumns);

    if (threadIdx.x < 128) {
        if constexpr (Mine::kConsumers > 1) ptx::setmaxnreg_dec<kProducerRegisters>();
        Copies copies(ring);
        for (int64_t t = blockIdx.x; t < tiles.count; t += gridDim.x) {
            const GatherTile tile = gather_tile(x, tiles, t, Mine::kRows, Mine::kColumns);
            if (tile.row0 >= tile.rows) continue;
            using Loader = GatherLoader<Stage<T, Mine>>;
            Loader loader(x, tile, width);
            const int first_place = Loader::first_place(x, tile);
            const int filter = int(tile.group * x.each_out + tile.column0);
            loader.begin();
#pragma unroll 1
            for (int step = gather_steps(x, tile, kStep); step > 0; --step) {
                ring.wait_empty();
                unsigned char* const stage = shared + ring.stage * Mine::kStage;
                if (weights_by_tma && threadIdx.x == 0) {
                    uint64_t* const full = &ring.full[ring.stage];
                    ptx::mbarrier_arrive_expect_tx(full, Mine::kBBytes);
                    ptx::tma_load_2d(stage + Mine::kABytes, &weights, full, first_place + loader.place(), filter);
                }
                loader.load(stage, !weights_by_tma);
                copies.next_stage();
                ring.advance();
            }
        }
        copies.finish();
    } else {
        if constexpr (Mine::kConsumers > 1) ptx::setmaxnreg_inc<kConsumerRegisters>();
        const int consumer = int(threadIdx.x) / 128 - 1, down = consumer / kAcross, across = consumer % kAcross;
        const uint64_t a = descriptor<false>(ptx::shared_offset(shared) + uint32_t(down * kBox));
        const uint64_t b =
            descriptor<false>(ptx::shared_offset(shared) + uint32_t(Mine::kABytes + across * kN * kRowBytes));
        const Results<T, kN> results = Mine::template results<T>(shared, stages, consumer);
        for (int64_t t = blockIdx.x; t < tiles.count; t += gridDim.x) {
            const GatherTile tile = gather_tile(x, tiles, t, Mine::kRows, Mine::kColumns);
            if (tile.row0 >= tile.rows) continue;
            float sums[kN / 2];
            multiply<T, kN, false, false, Mine::kStage>(sums, ring, a, b, gather_steps(x, tile, kStep), 1, [](int) {});
            results.finish(
                sums, finish.runs.out,
                [&](int row, int column, auto& value) {
                    finish_gathered<T>(x, finish, tile, uint32_t(tile.row0) + down * 64 + row,
                                       tile.column0 + across * kN + column, value);
                },
                [&](int first, const float* staged) {
                    if (!x.moments) return;
                    const int64_t row0 = tile.row0 + down * 64, column0 = tile.column0 + across * kN + first;
                    ColumnMoments<float, 64, 128> moments(int(threadIdx.x) % 128);
                    see_gathered<T>(moments, x, tile, column0, 64, staged,
                                    [&](int row) { return uint32_t(row0) + row < tile.rows; });
                    moments.leave(gather_moments<float>(x, tile, row0 / 64) + column0, x.groups * x.each_out,
                                  x.each_out - column0);
                });
        }
    }
#endif
}

template <class T, int kDown, int kAcross, int kN>
__global__ void __launch_bounds__(Tile<kDown, kAcross, kN>::kThreads, 1)
conv_sm90_weight_grad_kernel(const __grid_constant__ WeightGradArguments x, int splits, int a_width, int b_width,
                             bool runs, int stages, bool gradients_by_tma,
                             const __grid_constant__ ptx::TensorMap gradients) {
#ifdef FASTNET_SM90A
    using Mine = Tile<kDown, kAcross, kN>;
    GPU_SHARED(shared);  // as matmul's: (stages, kStage), (kConsumers, staging), (2, stages) mbarriers
    Ring ring = Mine::ring(shared, stages);
    if (threadIdx.x == 0) ring.init(4 + gradients_by_tma, 4 * Mine::kConsumers);
    __syncthreads();
    const WeightGradTiles tiles(x.shape, splits, Mine::kRows, Mine::kColumns, kStep);

    if (threadIdx.x < 128) {
        if constexpr (Mine::kConsumers > 1) ptx::setmaxnreg_dec<kProducerRegisters>();
        Copies copies(ring);
        for (int64_t t = blockIdx.x; t < tiles.count; t += gridDim.x) {
            const WeightGradTile tile = tiles.take(t, x.shape, Mine::kRows, Mine::kColumns);
            WeightGradLoader<Stage<T, Mine>> loader(x, tile, a_width, b_width);
            const int filter = int(tile.group * tiles.filters + tile.row0);
            loader.begin(tile.first, tile.last);
#pragma unroll 1
            for (int step = tile.steps(kStep); step > 0; --step) {
                ring.wait_empty();
                unsigned char* const stage = shared + ring.stage * Mine::kStage;
                if (gradients_by_tma && threadIdx.x == 0) {
                    uint64_t* const full = &ring.full[ring.stage];
                    ptx::mbarrier_arrive_expect_tx(full, Mine::kABytes);
#pragma unroll
                    for (int i = 0; i < kDown; ++i)
                        ptx::tma_load_2d(stage + i * kBox, &gradients, full, filter + i * 64, loader.pixel);
                }
                loader.load(stage, !gradients_by_tma);
                copies.next_stage();
                ring.advance();
            }
        }
        copies.finish();
    } else {
        if constexpr (Mine::kConsumers > 1) ptx::setmaxnreg_inc<kConsumerRegisters>();
        const int consumer = int(threadIdx.x) / 128 - 1, down = consumer / kAcross, across = consumer % kAcross;
        const uint64_t a = descriptor<true>(ptx::shared_offset(shared) + uint32_t(down * kBox));
        const uint64_t b =
            descriptor<true>(ptx::shared_offset(shared) + uint32_t(Mine::kABytes + across * kN * kRowBytes));
        const Results<T, kN> results = Mine::template results<T>(shared, stages, consumer);
        for (int64_t t = blockIdx.x; t < tiles.count; t += gridDim.x) {
            const WeightGradTile tile = tiles.take(t, x.shape, Mine::kRows, Mine::kColumns);
            float sums[kN / 2];
            multiply<T, kN, true, true, Mine::kStage>(sums, ring, a, b, tile.steps(kStep), 1, [](int) {});
            results.finish(sums, runs, [&](int row, int column, auto& value) {
                leave_weight_sums<T>(x, tiles, tile, tile.row0 + down * 64 + row, tile.column0 + across * kN + column,
                                     value);
            });
        }
    }
#endif
}

// Whether TMA can bring the weights, and their tensor map: a box of 64 (places and channels) x columns.
template <class T>
bool weights_map(ptx::TensorMap& map, const GatherArguments& x, int columns) {
    const int64_t filter_size = int64_t(x.rows.window) * x.columns.window * x.each_in;
    const bool neighbours =
        !x.backward || (x.rows.place_step == 1 && x.columns.place_step == 1) || x.each_in % kStep == 0;
    if (!neighbours || filter_size == 0 || filter_size * int64_t(sizeof(T)) % 16 ||
        reinterpret_cast<uintptr_t>(x.weight) % 16)
        return false;
    ptx::TensorLayout t;
    t.element = kElement<T>, t.base = x.weight, t.rank = 2, t.swizzle = ptx::Swizzle::span128;
    t.sizes[0] = uint64_t(filter_size), t.sizes[1] = uint64_t(x.groups * x.each_out);
    t.strides[1] = uint64_t(filter_size) * sizeof(T);
    t.box[0] = kStep, t.box[1] = uint32_t(columns);
    map = ptx::tensor_map(t);
    return true;
}

template <class T, int kDown, int kAcross, int kN>
void launch_gather_tile(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream) {
    using Mine = Tile<kDown, kAcross, kN>;
    ptx::TensorMap map{};
    const bool weights_by_tma = weights_map<T>(map, x, Mine::kColumns);
    const int64_t blocks = std::min<int64_t>(gather_tiles(x, Mine::kRows, Mine::kColumns).count, config.max_blocks);
    gpu::launch<conv_sm90_gather_kernel<T, kDown, kAcross, kN>>(
        dim3(unsigned(blocks)), dim3(Mine::kThreads), unsigned(conv_sm90_shared_bytes(config)), stream, x,
        gather_finish<T, kRun>(x), copy_width(x.each_in, int(sizeof(T)), {x.source, x.weight}), config.stages,
        weights_by_tma, map);
}

// Whether TMA can bring the results' gradients, and their tensor map: a box of 64 filters x 64 pixels.
template <class T>
bool gradients_map(ptx::TensorMap& map, const WeightGradArguments& x, int64_t pixels) {
    if (x.shape.filters * int64_t(sizeof(T)) % 16 || reinterpret_cast<uintptr_t>(x.grad) % 16) return false;
    ptx::TensorLayout t;
    t.element = kElement<T>, t.base = x.grad, t.rank = 2, t.swizzle = ptx::Swizzle::span128;
    t.sizes[0] = uint64_t(x.shape.filters), t.sizes[1] = uint64_t(pixels);
    t.strides[1] = uint64_t(x.shape.filters) * sizeof(T);
    t.box[0] = 64, t.box[1] = kStep;
    map = ptx::tensor_map(t);
    return true;
}

template <class T, int kDown, int kAcross, int kN>
void launch_weight_grad_tile(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream) {
    using Mine = Tile<kDown, kAcross, kN>;
    const int item = int(sizeof(T));
    const WeightGradTiles tiles(x.shape, config.splits, Mine::kRows, Mine::kColumns, kStep);
    ptx::TensorMap map{};
    const bool gradients_by_tma = gradients_map<T>(map, x, tiles.pixels);
    gpu::launch<conv_sm90_weight_grad_kernel<T, kDown, kAcross, kN>>(
        dim3(unsigned(std::min<int64_t>(tiles.count, config.max_blocks))), dim3(Mine::kThreads),
        unsigned(conv_sm90_shared_bytes(config)), stream, x, config.splits, copy_width(tiles.filters, item, {x.grad}),
        copy_width(tiles.channels, item, {x.x}), weight_sums_in_runs(x, tiles, kRun), config.stages, gradients_by_tma,
        map);
    add_weight_sums<T>(x, tiles, config.splits, stream);
}

template <class T>
void launch_weight_grad(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream) {
    switch (config.rows * 1000 + config.columns) {
        case 128256: return launch_weight_grad_tile<T, 2, 1, 256>(x, config, stream);
        case 128128: return launch_weight_grad_tile<T, 2, 1, 128>(x, config, stream);
        case 64128: return launch_weight_grad_tile<T, 1, 2, 64>(x, config, stream);
        default: return launch_weight_grad_tile<T, 1, 1, 64>(x, config, stream);
    }
}

template <class T>
void launch_gather(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream) {
    switch (config.rows * 1000 + config.columns) {
        case 128256: return launch_gather_tile<T, 2, 1, 256>(x, config, stream);
        case 128128: return launch_gather_tile<T, 2, 1, 128>(x, config, stream);
        case 128064: return launch_gather_tile<T, 2, 1, 64>(x, config, stream);
        default: return launch_gather_tile<T, 1, 1, 64>(x, config, stream);
    }
}

}  // namespace conv_sm90
