// Column sums. A block's 256 threads own 32 columns and a group of rows, or 8 columns where it is the rows that are
// neighbours in memory: either way a warp reads one run of addresses. Its row lanes are added in a fixed order through
// shared memory, and groups of rows by a second pass, so the order depends on the shape and layout alone.
#include "../device/convert.cuh"
#include "reduction.h"
#include <limits>

namespace {

constexpr int kThreads = 256;

// out: (gridDim.y, cols), one partial sum for each group of rows.
template <class T, class Out>
__global__ void __launch_bounds__(kThreads)
column_sum_kernel(Out* __restrict__ out, const T* __restrict__ x, int64_t rows, int64_t cols, int64_t row_stride,
                  int64_t column_stride, int columns) {
    using Acc = accumulator_t<T>;
    GPU_SHARED(shared);
    auto* partial = reinterpret_cast<Acc*>(shared);  // (lanes, columns)
    const int lanes = kThreads / columns, thread = threadIdx.x;
    const bool across = columns == kColumnsAcross;  // neighbouring threads take neighbouring columns, else rows
    const int column = across ? thread % columns : thread / lanes, lane = across ? thread / columns : thread % lanes;
    const int64_t rows_each = (rows + gridDim.y - 1) / gridDim.y;
    const int64_t first = blockIdx.y * rows_each, last = min(first + rows_each, rows);
    const int64_t column_blocks = (cols + columns - 1) / columns;
    for (int64_t block = blockIdx.x; block < column_blocks; block += gridDim.x) {
        const int64_t c = block * columns + column;
        Acc sum = 0;
        if (c < cols)
            for (int64_t r = first + lane; r < last; r += lanes)
                sum += convert<Acc>(x[r * row_stride + c * column_stride]);
        partial[lane * columns + column] = sum;
        __syncthreads();
        if (lane == 0 && c < cols) {
            for (int i = 1; i < lanes; ++i) sum += partial[i * columns + column];
            out[blockIdx.y * cols + c] = convert<Out>(sum);
        }
        __syncthreads();  // the next columns overwrite the partial sums
    }
}

template <class T, class Out>
void launch(Out* out, const T* x, int64_t rows, int64_t cols, int64_t row_stride, int64_t column_stride, int splits,
            int columns, cudaStream_t stream) {
    const int64_t column_blocks = (cols + columns - 1) / columns;
    dim3 grid(unsigned(std::min<int64_t>(column_blocks, std::numeric_limits<int32_t>::max())), unsigned(splits));
    gpu::launch<column_sum_kernel<T, Out>>(grid, dim3(kThreads), kThreads * sizeof(accumulator_t<T>), stream, out, x,
                                           rows, cols, row_stride, column_stride, columns);
}

}  // namespace

void column_sum(void* out, DType out_dtype, const void* x, DType x_dtype, int64_t rows, int64_t cols,
                int64_t row_stride, int64_t column_stride, void* workspace, const ColumnSumConfig& config,
                cudaStream_t stream) {
    if (cols == 0) return;
    dispatch_floating(x_dtype, [&](auto x_tag) {
        dispatch_floating(out_dtype, [&](auto out_tag) {
            using T = typename decltype(x_tag)::type;
            using Out = typename decltype(out_tag)::type;
            using Acc = accumulator_t<T>;
            const T* from = static_cast<const T*>(x);
            if (config.splits == 1) {
                launch(static_cast<Out*>(out), from, rows, cols, row_stride, column_stride, 1, config.columns, stream);
                return;
            }
            Acc* partial = static_cast<Acc*>(workspace);
            launch(partial, from, rows, cols, row_stride, column_stride, config.splits, config.columns, stream);
            launch(static_cast<Out*>(out), partial, config.splits, cols, cols, 1, 1, kColumnsAcross, stream);
        });
    });
}
