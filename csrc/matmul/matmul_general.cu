// The general matrix product: one kernel for every dtype, layout and shape, on ordinary multiply-adds.
//
// A block owns a tile of one product. Each step of 8 along k, every thread fetches four consecutive elements of each
// operand into registers while the block multiplies the step before from shared memory; both operands lie there k-major,
// in the type of the sums, so that one 16-byte read gives a thread four rows (columns) of one k.
#include "matmul_epilogue.cuh"
#include "matmul_general_config.h"
#include <type_traits>

namespace {

constexpr int kQuad = 4;

// Sums of integers wrap; only unsigned arithmetic may.
template <class T> struct SumOf { using type = accumulator_t<T>; };
template <> struct SumOf<int32_t> { using type = uint32_t; };
template <> struct SumOf<int64_t> { using type = uint64_t; };
template <> struct SumOf<uint8_t> { using type = uint32_t; };

template <class T> struct alignas(sizeof(T) * kQuad < 16 ? sizeof(T) * kQuad : 16) Quad { T v[kQuad]; };

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

// stage: (kMatmulStep, kOuter + kMatmulPad)
template <int kOuter, class T, class Sum>
__device__ __forceinline__ void put(Sum* stage, const Quad<T>& q, bool along_k, int outer, int k) {
    constexpr int kPitch = kOuter + kMatmulPad;
    Quad<Sum> sum;
#pragma unroll
    for (int i = 0; i < kQuad; ++i) sum.v[i] = convert<Sum>(q.v[i]);
    if (along_k) {
#pragma unroll
        for (int i = 0; i < kQuad; ++i) stage[(k + i) * kPitch + outer] = sum.v[i];
    } else {
        *reinterpret_cast<Quad<Sum>*>(stage + k * kPitch + outer) = sum;
    }
}

template <MatmulTile kTile>
constexpr int kMatmulThreads = kMatmulTiles[int(kTile)].rows / kMatmulTiles[int(kTile)].thread_rows *
                               (kMatmulTiles[int(kTile)].columns / kMatmulTiles[int(kTile)].thread_columns);

// Where a second set of sums does not fit the registers, totals live in the tile of results.
template <class Sum, MatmulTile kTile>
constexpr bool kTotalsAreShared = matmul_totals_are_shared(kMatmulTiles[int(kTile)], sizeof(Sum));

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

template <class T, MatmulTile kTile>
__global__ void __launch_bounds__(kMatmulThreads<kTile>, 1)
matmul_kernel(MatmulArguments arguments, Operand<T> a, Operand<T> b, int64_t batch, int fold) {
    using Sum = typename SumOf<T>::type;
    constexpr MatmulTileShape kShape = kMatmulTiles[int(kTile)];
    constexpr int kRows = kShape.rows, kColumns = kShape.columns, kThreadRows = kShape.thread_rows, kThreadColumns = kShape.thread_columns;
    constexpr int kThreadsAcross = kColumns / kThreadColumns, kThreads = kMatmulThreads<kTile>;
    static_assert(kThreads * kQuad == kRows * kMatmulStep && kThreads * kQuad == kColumns * kMatmulStep, "a quad each");
    constexpr int kStageA = kMatmulStep * (kRows + kMatmulPad), kStage = kStageA + kMatmulStep * (kColumns + kMatmulPad);
    constexpr bool kFolds = std::is_floating_point_v<Sum>;
    constexpr bool kSharedTotals = kFolds && kTotalsAreShared<Sum, kTile>;

    GPU_SHARED(shared);
    Sum* const stages = reinterpret_cast<Sum*>(shared);          // (2, kStage)
    Sum* const results = stages + (kSharedTotals ? 2 * kStage : 0);   // (kRows, kColumns), else when the stages are done with

    // A warp is 4 x 8 threads of the tile: its reads of a stage are 64 and 128 neighbouring bytes.
    const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
    const int thread_row = warp / (kThreadsAcross / 8) * 4 + lane / 8;
    const int thread_column = warp % (kThreadsAcross / 8) * 8 + lane % 8;
    const int a_outer = a.along_k ? thread / 2 : thread * kQuad % kRows, a_k = a.along_k ? thread % 2 * kQuad : thread * kQuad / kRows;
    const int b_outer = b.along_k ? thread / 2 : thread * kQuad % kColumns, b_k = b.along_k ? thread % 2 * kQuad : thread * kQuad / kColumns;

    const int64_t m = arguments.m, n = arguments.n, k = arguments.k;
    const int64_t tiles_down = (m + kRows - 1) / kRows, tiles_across = (n + kColumns - 1) / kColumns;
    const int64_t tiles = tiles_down * tiles_across, steps = (k + kMatmulStep - 1) / kMatmulStep;
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
            const Quad<T> qa = fetch(a, row0 + a_outer, a_k), qb = fetch(b, column0 + b_outer, b_k);
            put<kRows>(stages, qa, a.along_k, a_outer, a_k);
            put<kColumns>(stages + kStageA, qb, b.along_k, b_outer, b_k);
            __syncthreads();
        }
        int until_fold = fold;
        for (int64_t step = 0; step < steps; ++step) {
            const Sum* const stage = stages + step % 2 * kStage;
            Quad<T> qa, qb;
            const bool more = step + 1 < steps;
            if (more) {
                qa = fetch(a, row0 + a_outer, (step + 1) * kMatmulStep + a_k);
                qb = fetch(b, column0 + b_outer, (step + 1) * kMatmulStep + b_k);
            }
#pragma unroll
            for (int i = 0; i < kMatmulStep; ++i) {
                Quad<Sum> fa[kThreadRows / kQuad], fb[kThreadColumns / kQuad];
#pragma unroll
                for (int j = 0; j < kThreadRows / kQuad; ++j)
                    fa[j] = *reinterpret_cast<const Quad<Sum>*>(
                        stage + i * (kRows + kMatmulPad) + element<kRows, kThreadRows>(thread_row, j * kQuad));
#pragma unroll
                for (int j = 0; j < kThreadColumns / kQuad; ++j)
                    fb[j] = *reinterpret_cast<const Quad<Sum>*>(
                        stage + kStageA + i * (kColumns + kMatmulPad) + element<kColumns, kThreadColumns>(thread_column, j * kQuad));
#pragma unroll
                for (int r = 0; r < kThreadRows; ++r)
#pragma unroll
                    for (int c = 0; c < kThreadColumns; ++c)
                        sums[r][c] += fa[r / kQuad].v[r % kQuad] * fb[c / kQuad].v[c % kQuad];
            }
            if constexpr (kFolds) {
                until_fold -= kMatmulStep;
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
            if (more) {                  // the other stage: every thread has left it since the last barrier
                Sum* const next = stages + (step + 1) % 2 * kStage;
                put<kRows>(next, qa, a.along_k, a_outer, a_k);
                put<kColumns>(next + kStageA, qb, b.along_k, b_outer, b_k);
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
        const MatmulOffsets at = matmul_offsets(arguments, product);
#pragma unroll 1
        for (int i = thread; i < kRows * kColumns; i += kThreads) {
            const int64_t row = row0 + i / kColumns, column = column0 + i % kColumns;
            if (row >= m || column >= n) continue;
            matmul_finish<T>(arguments, at, product, row, column, results[i]);
        }
        __syncthreads();                 // the next tile's stages overwrite the results
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
        grid, dim3(kMatmulThreads<kTile>), matmul_general_shared_bytes(kShape, sizeof(typename SumOf<T>::type)), stream, arguments,
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
