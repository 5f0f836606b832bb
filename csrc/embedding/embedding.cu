// Gathering rows, and adding gradients up by row without atomics: positions are sorted by row, teams of threads take
// chunks of them, and what a chunk's ends cut in two is joined, in order, by a second pass.
#include "../device/convert.cuh"
#include "../device/vector.cuh"
#include "embedding.h"
#include <limits>

namespace {

// A block's teams side by side: the first item of this thread's team and the step to its next.
struct Share {
    int64_t first, step;
    int lane;  // within the team
    __device__ __forceinline__ explicit Share(int team) {
        const int teams = kEmbeddingThreads / team;
        first = int64_t(blockIdx.x) * teams + threadIdx.x / team;
        step = int64_t(gridDim.x) * teams;
        lane = threadIdx.x % team;
    }
};

// `units` of 16, 4 or 2 bytes a row.
template <class Unit>
__global__ void __launch_bounds__(kEmbeddingThreads)
embedding_kernel(Unit* __restrict__ out, const Unit* __restrict__ weight, const int64_t* __restrict__ index,
                 int64_t count, int64_t rows, int64_t units, int64_t row_stride, int team, int* __restrict__ fault) {
    const Share share(team);
    for (int64_t i = share.first; i < count; i += share.step) {
        const int64_t row = index[i];
        const bool good = row >= 0 && row < rows;
        if (!good && share.lane == 0) atomicExch(fault, 1);
        for (int64_t u = share.lane; u < units; u += team)
            out[i * units + u] = good ? weight[row * row_stride + u] : Unit{};
    }
}

// What the two passes of embedding_backward know of the sorted positions.
struct Runs {
    const int64_t* sorted;  // (count)
    int64_t count, rows, padding_idx;
    int chunk;

    __device__ __forceinline__ bool written(int64_t row) const { return row >= 0 && row < rows && row != padding_idx; }
    // Whether position j is the last of its row.
    __device__ __forceinline__ bool ends(int64_t j) const { return j + 1 == count || sorted[j + 1] != sorted[j]; }
    // Whether position j's row has positions before it.
    __device__ __forceinline__ bool continued(int64_t j) const { return j > 0 && sorted[j - 1] == sorted[j]; }
    __device__ __forceinline__ int64_t last(int64_t c) const { return min((c + 1) * chunk, count) - 1; }
};

template <class T, int kN, class Acc>
__device__ __forceinline__ void store_row(T* __restrict__ out, const Acc (&sum)[kN]) {
    Vector<T, kN> v;
    for (int k = 0; k < kN; ++k) v[k] = convert<T>(sum[k]);
    store_vector<kN>(out, v);
}

// workspace: (2 * chunks, dim). Of chunk c, row 2c has the sum of a run that began before it, 2c + 1 that of a run that
// begins in it and goes on after it.
template <class T, int kN>
__global__ void __launch_bounds__(kEmbeddingThreads, 2)
embedding_backward_kernel(T* __restrict__ weight_grad, const T* __restrict__ grad, const int64_t* __restrict__ order,
                          const Runs runs, int64_t dim, int team, accumulator_t<T>* __restrict__ workspace) {
    using Acc = accumulator_t<T>;
    const Share share(team);
    const int64_t chunks = (runs.count + runs.chunk - 1) / runs.chunk;
    for (int64_t c = share.first; c < chunks; c += share.step) {
        const int64_t first = c * runs.chunk, last = runs.last(c);
        for (int64_t column = share.lane * kN; column < dim; column += team * kN) {
            Acc sum[kN] = {};
            bool continued = runs.continued(first);
            for (int64_t j = first; j <= last; ++j) {
                const Vector<T, kN> g = load_vector<kN>(grad + order[j] * dim + column);
                for (int k = 0; k < kN; ++k) sum[k] += convert<Acc>(g.v[k]);
                const bool ends = runs.ends(j);
                if (!ends && j < last) continue;
                if (ends && !continued) {
                    const int64_t row = runs.sorted[j];
                    if (runs.written(row)) store_row<T, kN>(weight_grad + row * dim + column, sum);
                } else {
                    Acc* partial = workspace + (2 * c + (continued ? 0 : 1)) * dim + column;
                    for (int k = 0; k < kN; ++k) partial[k] = sum[k];
                }
                for (int k = 0; k < kN; ++k) sum[k] = 0;
                continued = false;
            }
        }
    }
}

// The team of the chunk in which a run begins joins its parts.
template <class T, int kN>
__global__ void __launch_bounds__(kEmbeddingThreads, 2)
embedding_join_kernel(T* __restrict__ weight_grad, const accumulator_t<T>* __restrict__ workspace, const Runs runs,
                      int64_t dim, int team) {
    using Acc = accumulator_t<T>;
    const Share share(team);
    const int64_t chunks = (runs.count + runs.chunk - 1) / runs.chunk;
    for (int64_t c = share.first; c < chunks; c += share.step) {
        const int64_t first = c * runs.chunk, last = runs.last(c), row = runs.sorted[last];
        const bool begins_here = runs.sorted[first] != row || !runs.continued(first);
        if (runs.ends(last) || !begins_here || !runs.written(row)) continue;
        for (int64_t column = share.lane * kN; column < dim; column += team * kN) {
            Acc sum[kN];
            for (int k = 0; k < kN; ++k) sum[k] = workspace[(2 * c + 1) * dim + column + k];
            for (int64_t next = c + 1;; ++next) {
                for (int k = 0; k < kN; ++k) sum[k] += workspace[2 * next * dim + column + k];
                const int64_t end = runs.last(next);
                if (runs.sorted[end] != row || runs.ends(end)) break;
            }
            store_row<T, kN>(weight_grad + row * dim + column, sum);
        }
    }
}

dim3 grid_for(int64_t items, int team) {
    const int64_t teams = kEmbeddingThreads / team;
    return dim3(unsigned(std::min<int64_t>((items + teams - 1) / teams, std::numeric_limits<int32_t>::max())));
}

template <class Unit>
void gather(void* out, const void* weight, const int64_t* index, int64_t count, int64_t rows, int64_t row_bytes,
            int64_t stride_bytes, int* fault, int team, cudaStream_t stream) {
    constexpr int64_t kUnit = sizeof(Unit);
    gpu::launch<embedding_kernel<Unit>>(grid_for(count, team), dim3(kEmbeddingThreads), 0, stream,
                                        static_cast<Unit*>(out), static_cast<const Unit*>(weight), index, count, rows,
                                        row_bytes / kUnit, stride_bytes / kUnit, team, fault);
}

template <class T, int kN>
void add_up(T* weight_grad, const T* grad, const int64_t* order, const Runs& runs, int64_t dim, void* workspace,
            int team, cudaStream_t stream) {
    auto* partial = static_cast<accumulator_t<T>*>(workspace);
    const dim3 grid = grid_for((runs.count + runs.chunk - 1) / runs.chunk, team);
    gpu::launch<embedding_backward_kernel<T, kN>>(grid, dim3(kEmbeddingThreads), 0, stream, weight_grad, grad, order,
                                                  runs, dim, team, partial);
    gpu::launch<embedding_join_kernel<T, kN>>(grid, dim3(kEmbeddingThreads), 0, stream, weight_grad, partial, runs, dim,
                                              team);
}

}  // namespace

void embedding(void* out, const void* weight, const int64_t* index, int64_t itemsize, int64_t count, int64_t rows,
               int64_t dim, int64_t row_stride, int* fault, const EmbeddingConfig& config, cudaStream_t stream) {
    if (count == 0 || dim == 0) return;
    const int64_t row_bytes = dim * itemsize, stride_bytes = row_stride * itemsize;
    const auto together = uintptr_t(out) | uintptr_t(weight) | uintptr_t(row_bytes) | uintptr_t(stride_bytes);
    auto go = [&](auto unit) {
        using Unit = typename decltype(unit)::type;
        gather<Unit>(out, weight, index, count, rows, row_bytes, stride_bytes, fault, config.team, stream);
    };
    if (together % 16 == 0) go(TypeTag<Vector<uint32_t, 4>>{});
    else if (together % 4 == 0) go(TypeTag<uint32_t>{});
    else go(TypeTag<uint16_t>{});
}

void embedding_backward(void* weight_grad, const void* grad, DType dtype, const int64_t* order, const int64_t* sorted,
                        int64_t count, int64_t rows, int64_t dim, int64_t padding_idx, void* workspace,
                        const EmbeddingConfig& config, cudaStream_t stream) {
    if (count == 0 || dim == 0) return;
    const Runs runs{sorted, count, rows, padding_idx, config.chunk};
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        constexpr int kN = 16 / sizeof(T);
        auto* out = static_cast<T*>(weight_grad);
        auto* from = static_cast<const T*>(grad);
        if (dim % kN == 0 && aligned_for<kN>(out) && aligned_for<kN>(from))
            add_up<T, kN>(out, from, order, runs, dim, workspace, config.team, stream);
        else add_up<T, 1>(out, from, order, runs, dim, workspace, config.team, stream);
    });
}
