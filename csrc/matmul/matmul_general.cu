// The general matrix product: one kernel for every dtype, layout and shape, on ordinary multiply-adds.
//
// A block owns a tile of one product (device/block_product.cuh says how it multiplies); here is where its elements come
// from and what becomes of the sums.
#include "../device/block_product.cuh"
#include "matmul_epilogue.cuh"
#include "matmul_general_config.h"
#include <type_traits>

namespace {

// One operand's tile: `outer` is its row or column, whichever is not k.
template <class T>
struct Operand {
    const T* data;
    int64_t outer_size, k, outer_stride, k_stride;
    bool along_k;                        // a thread's four elements are neighbours in k, else in the outer dimension
    bool vector;                         // they may be read at once
};

template <class T>
__device__ __forceinline__ Quad<T> fetch(const Operand<T>& from, int64_t outer, int64_t k) {
    Quad<T> q;
    const T* p = from.data + outer * from.outer_stride + k * from.k_stride;
    const int64_t outer_left = from.outer_size - outer, k_left = from.k - k;
    const int64_t left = from.along_k ? (outer_left > 0 ? k_left : 0) : (k_left > 0 ? outer_left : 0);
    if (from.vector && left >= kQuad) return *reinterpret_cast<const Quad<T>*>(p);
    const int64_t stride = from.along_k ? from.k_stride : from.outer_stride;
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
        q.v[i] = T{};                    // outside the operand: 0 * 0 adds nothing
        if (i < left) q.v[i] = p[i * stride];
    }
    return q;
}

template <MatmulTile kTile>
using TileOf = ProductTile<kMatmulTiles[int(kTile)].rows, kMatmulTiles[int(kTile)].columns,
                           kMatmulTiles[int(kTile)].thread_rows, kMatmulTiles[int(kTile)].thread_columns>;

template <class T, MatmulTile kTile>
__global__ void __launch_bounds__(TileOf<kTile>::kThreads, 1)
matmul_kernel(MatmulArguments arguments, Operand<T> a, Operand<T> b, int64_t batch, int fold) {
    using Sum = typename SumOf<T>::type;
    using Tile = TileOf<kTile>;
    constexpr int kRows = Tile::kRows, kColumns = Tile::kColumns;
    GPU_SHARED(shared);
    const QuadPlace a_place = quad_place<kRows>(threadIdx.x, a.along_k), b_place = quad_place<kColumns>(threadIdx.x, b.along_k);
    const int64_t m = arguments.m, n = arguments.n, k = arguments.k;
    const int64_t tiles_down = (m + kRows - 1) / kRows, tiles_across = (n + kColumns - 1) / kColumns;
    const int64_t tiles = tiles_down * tiles_across, steps = (k + kProductStep - 1) / kProductStep;
    const T* const a_data = a.data;
    const T* const b_data = b.data;

    for (int64_t t = blockIdx.x; t < tiles * batch; t += gridDim.x) {
        const int64_t product = t / tiles;
        const MatmulPosition position = matmul_position(t % tiles, tiles_down, tiles_across);
        const int64_t row0 = position.row * kRows, column0 = position.column * kColumns;
        {
            const MatmulOffsets at = matmul_offsets(arguments, product);
            a.data = a_data + at.a;
            b.data = b_data + at.b;
        }
        // The blocks of the first column of tiles sum a's rows as well, a thread each.
        const bool sums_row = arguments.row_sums && column0 == 0 && int(threadIdx.x) < kRows;
        Sum row_total{}, row_rest{};     // and what additions lost
        const Sum* const results = block_product<Tile, Sum>(
            shared, steps, fold, a.along_k, b.along_k,
            [&](int64_t step) { return fetch(a, row0 + a_place.outer, step * kProductStep + a_place.k); },
            [&](int64_t step) { return fetch(b, column0 + b_place.outer, step * kProductStep + b_place.k); },
            [&](const Sum* stage) {
                if constexpr (std::is_floating_point_v<Sum>)
                    if (sums_row) {
#pragma unroll
                        for (int i = 0; i < kProductStep; ++i) row_rest += stage[i * (kRows + kProductPad) + threadIdx.x];
                        fold_into(row_total, row_rest);
                    }
            });
        const MatmulOffsets at = matmul_offsets(arguments, product);
        if (const int64_t row = row0 + threadIdx.x; sums_row && row < m)
            static_cast<T*>(arguments.row_sums)[product * m + row] = convert<T>(row_total + row_rest);
#pragma unroll 1
        for (int i = threadIdx.x; i < kRows * kColumns; i += Tile::kThreads) {
            const int64_t row = row0 + i / kColumns, column = column0 + i % kColumns;
            if (row >= m || column >= n) continue;
            matmul_finish<T>(arguments, at, product, row, column, results[i]);
        }
        __syncthreads(); // the next tile's stages overwrite the results
    }
}

// Which neighbours a thread takes, and whether it may read them at once.
template <class T>
Operand<T> operand(const void* data, int64_t outer_size, int64_t k, int64_t outer_stride, int64_t k_stride,
                   const MatmulArguments& arguments, const int64_t* batch_strides) {
    // A dimension of size one has no neighbours, whatever its stride says.
    const bool k_contiguous = k_stride == 1 && k > 1, outer_contiguous = outer_stride == 1 && outer_size > 1;
    Operand<T> o{static_cast<const T*>(data), outer_size, k, outer_stride, k_stride, k_contiguous || !outer_contiguous, false};
    if (k_contiguous && outer_contiguous) o.along_k = true;
    const int64_t other = o.along_k ? outer_stride : k_stride;
    const int64_t others = o.along_k ? outer_size : k;
    o.vector = (o.along_k ? k_contiguous : outer_contiguous) && reinterpret_cast<uintptr_t>(data) % alignof(Quad<T>) == 0 &&
               (others <= 1 || other % kQuad == 0);
    for (int d = 0; d < arguments.batch_rank; ++d) o.vector = o.vector && batch_strides[d] % kQuad == 0;
    return o;
}

template <class T, MatmulTile kTile>
void launch(const MatmulArguments& arguments, const MatmulConfig& config, cudaStream_t stream) {
    constexpr MatmulTileShape kShape = kMatmulTiles[int(kTile)];
    int64_t batch = 1;
    for (int d = 0; d < arguments.batch_rank; ++d) batch *= arguments.batch_shape[d];
    const int64_t tiles = batch * ((arguments.m + kShape.rows - 1) / kShape.rows) * ((arguments.n + kShape.columns - 1) / kShape.columns);
    if (tiles == 0) return;
    const dim3 grid(unsigned(std::min<int64_t>(tiles, config.max_blocks)));
    gpu::launch<matmul_kernel<T, kTile>>(
        grid, dim3(TileOf<kTile>::kThreads), matmul_general_shared_bytes(kShape, sizeof(typename SumOf<T>::type)), stream, arguments,
        operand<T>(arguments.a, arguments.m, arguments.k, arguments.a_row, arguments.a_k, arguments, arguments.a_batch),
        operand<T>(arguments.b, arguments.n, arguments.k, arguments.b_column, arguments.b_k, arguments, arguments.b_batch), batch, config.fold);
}

template <class T, bool kLarge>
void launch(const MatmulArguments& arguments, const MatmulConfig& config, cudaStream_t stream) {
    if constexpr (kLarge)
        if (config.rows == 128) return launch<T, MatmulTile::large>(arguments, config, stream);
    if (config.rows == 32) return launch<T, MatmulTile::small>(arguments, config, stream);
    return launch<T, MatmulTile::medium>(arguments, config, stream);
}

}  // namespace

void matmul_general(const MatmulArguments& arguments, DType dtype, const MatmulConfig& config, cudaStream_t stream) {
    switch (dtype) {
        case DType::float32: return launch<float, true>(arguments, config, stream);
        case DType::float16: return launch<__half, true>(arguments, config, stream);
        case DType::bfloat16: return launch<__nv_bfloat16, true>(arguments, config, stream);
        case DType::float64: return launch<double, false>(arguments, config, stream);
        case DType::int32: return launch<int32_t, false>(arguments, config, stream);
        case DType::int64: return launch<int64_t, false>(arguments, config, stream);
        case DType::uint8: return launch<uint8_t, false>(arguments, config, stream);
        default: throw std::invalid_argument("matmul: no kernel for this dtype");
    }
}
