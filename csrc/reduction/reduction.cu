// Column sums. A block of 32 x 8 threads owns 32 columns and a group of rows; its 8 row lanes are added in a fixed
// order through shared memory, and groups of rows by a second pass, so the order depends on the shape alone.
#include "../device/convert.cuh"
#include "reduction.h"

namespace {

constexpr int kColumns = 32, kRowLanes = 8;

// out: (gridDim.y, cols), one partial sum for each group of rows.
template <class T, class Out>
__global__ void __launch_bounds__(kColumns * kRowLanes)
column_sum_kernel(Out* __restrict__ out, const T* __restrict__ x, int64_t rows, int64_t cols, int64_t row_stride) {
    using Acc = accumulator_t<T>;
    GPU_SHARED(shared);
    auto* partial = reinterpret_cast<Acc*>(shared);              // (kRowLanes, kColumns)
    const int column = threadIdx.x % kColumns, lane = threadIdx.x / kColumns;
    const int64_t c = int64_t(blockIdx.x) * kColumns + column;
    const int64_t rows_each = (rows + gridDim.y - 1) / gridDim.y;
    const int64_t first = blockIdx.y * rows_each, last = min(first + rows_each, rows);
    Acc sum = 0;
    if (c < cols)
        for (int64_t r = first + lane; r < last; r += kRowLanes) sum += convert<Acc>(x[r * row_stride + c]);
    partial[lane * kColumns + column] = sum;
    __syncthreads();
    if (lane == 0 && c < cols) {
        for (int i = 1; i < kRowLanes; ++i) sum += partial[i * kColumns + column];
        out[blockIdx.y * cols + c] = convert<Out>(sum);
    }
}

template <class T, class Out>
void launch(Out* out, const T* x, int64_t rows, int64_t cols, int64_t row_stride, int splits, cudaStream_t stream) {
    dim3 grid(unsigned((cols + kColumns - 1) / kColumns), unsigned(splits));
    gpu::launch<column_sum_kernel<T, Out>>(grid, dim3(kColumns * kRowLanes), kColumns * kRowLanes * sizeof(accumulator_t<T>), stream,
                                           out, x, rows, cols, row_stride);
}

}  // namespace

void column_sum(void* out, DType out_dtype, const void* x, DType x_dtype, int64_t rows, int64_t cols, int64_t row_stride,
                void* workspace, const ColumnSumConfig& config, cudaStream_t stream) {
    if (cols == 0) return;
    dispatch_floating(x_dtype, [&](auto x_tag) {
        dispatch_floating(out_dtype, [&](auto out_tag) {
            using T = typename decltype(x_tag)::type;
            using Out = typename decltype(out_tag)::type;
            using Acc = accumulator_t<T>;
            const T* from = static_cast<const T*>(x);
            if (config.splits == 1) {
                launch(static_cast<Out*>(out), from, rows, cols, row_stride, 1, stream);
                return;
            }
            Acc* partial = static_cast<Acc*>(workspace);
            launch(partial, from, rows, cols, row_stride, config.splits, stream);
            launch(static_cast<Out*>(out), partial, config.splits, cols, cols, 1, stream);
        });
    });
}
