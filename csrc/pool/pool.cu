// Pooling. A thread writes kN neighbouring channels of one pixel: forward it walks its window, backward it walks the
// windows that hold its pixel, so that every element is written once and nothing is added by two threads. Neighbouring
// threads take neighbouring channels, then neighbouring pixels: windows that overlap meet in the first-level cache.
#include "../device/convert.cuh"
#include "../device/reduce.cuh"
#include "../device/vector.cuh"
#include "pool.h"
#include <stdexcept>

namespace {

// Told so, ptxas 13.0 keeps to 85 registers without spills; told nothing, it keeps to 48 or 64 and spills some on sm_90a.
constexpr int kPoolBlocksPerSM = 3;

struct Range {
    int begin, end;  // exclusive
};

// The pixels of window `at`; they are `dilation` apart. Divisions are of 32 bits: those of 64 are calls, around which
// registers spill.
__device__ __forceinline__ Range window(const PoolAxis& a, int at) {
    if (a.adaptive) {
        const uint32_t size = a.size, out = a.out;  // size * out < 2^31
        return {int(at * size / out), int(((at + 1) * size + out - 1) / out)};
    }
    // 64 bits: a window may reach far beyond the image.
    int64_t begin = int64_t(at) * a.stride - a.padding;
    const int64_t end = begin + int64_t(a.kernel - 1) * a.dilation + 1;
    if (begin < 0) begin += int64_t((uint32_t(-begin) + a.dilation - 1) / uint32_t(a.dilation)) * a.dilation;
    return {int(begin), int(end < a.size ? end : a.size)};
}

__device__ __forceinline__ int step(const PoolAxis& a) { return a.adaptive ? 1 : a.dilation; }

// The windows that may hold `pixel`.
__device__ __forceinline__ Range windows_of(const PoolAxis& a, int pixel) {
    if (a.adaptive) {
        const uint32_t size = a.size, out = a.out;
        return {int(pixel * out / size), int(((pixel + 1) * out + size - 1) / size)};
    }
    const uint32_t last = uint32_t(pixel) + a.padding, stride = a.stride;
    const int64_t first = last - int64_t(a.kernel - 1) * a.dilation;
    const uint32_t begin = first > 0 ? (uint32_t(first) - 1) / stride + 1 : 0, end = last / stride + 1;
    return {int(begin), int(end < uint32_t(a.out) ? end : a.out)};
}

// Whether window `at`, one of windows_of(pixel), holds the pixel and does not step over it.
__device__ __forceinline__ bool holds(const PoolAxis& a, int at, int pixel) {
    return a.adaptive || a.dilation == 1 ||
           (uint32_t(pixel) + a.padding - uint32_t(at) * a.stride) % uint32_t(a.dilation) == 0;
}

// What the sum of window `at` is divided by, along one axis.
__device__ __forceinline__ int pixels(const PoolAxis& a, int at, bool include_pad) {
    if (a.adaptive || !include_pad) {
        const Range r = window(a, at);
        return r.end - r.begin;
    }
    const int64_t begin = int64_t(at) * a.stride - a.padding, end = begin + a.kernel,
                  most = int64_t(a.size) + a.padding;
    return int((end < most ? end : most) - begin);
}

template <class Acc>
__device__ __forceinline__ Acc divisor(const PoolProblem& p, const AveragePool& average, int row, int column) {
    if (average.divisor) return Acc(average.divisor);
    return Acc(pixels(p.rows, row, average.include_pad)) * Acc(pixels(p.columns, column, average.include_pad));
}

// One pixel and the first of kN channels of (batch, rows, columns, channels).
struct Place {
    int64_t element, image;  // `element`: its place in memory
    int row, column;
    int64_t channel;
};

// Calls f(place) for what this thread writes of (batch, rows, columns, channels): lanes of
// the block take neighbouring channels, the rest of it neighbouring pixels. No division of 64 bits: fewer than 2^32 pixels.
template <int kN, class F>
__device__ __forceinline__ void for_each(const PoolProblem& p, uint32_t rows, uint32_t columns, int lanes, F&& f) {
    const uint32_t pixels = uint32_t(p.batch) * rows * columns, at_once = kPoolThreads / lanes;
    const int64_t step = int64_t(gridDim.x) * at_once;
    for (int64_t i = int64_t(blockIdx.x) * at_once + threadIdx.x / lanes; i < pixels; i += step) {
        const uint32_t pixel = uint32_t(i), line = pixel / columns;
        const int column = int(pixel - line * columns), row = int(line % rows);
        const int64_t image = line / rows;
        for (int64_t channel = int64_t(threadIdx.x % lanes) * kN; channel < p.channels; channel += int64_t(lanes) * kN)
            f(Place{i * p.channels + channel, image, row, column, channel});
    }
}

template <class T, int kN> struct Largest {
    accumulator_t<T> value[kN];
    int pixel[kN];
};

// The largest values of window (row, column) of image `x` (height, width, channels), and their pixels.
template <int kN, class T>
__device__ __forceinline__ Largest<T, kN> largest(const T* __restrict__ x, const PoolProblem& p, int row, int column) {
    using Acc = accumulator_t<T>;
    const Range rows = window(p.rows, row), columns = window(p.columns, column);
    Largest<T, kN> best;
#pragma unroll
    for (int e = 0; e < kN; ++e) {
        best.value[e] = -kInfinity<Acc>;
        best.pixel[e] = rows.begin * p.columns.size + columns.begin;
    }
    for (int64_t h = rows.begin; h < rows.end; h += step(p.rows))
        for (int64_t w = columns.begin; w < columns.end; w += step(p.columns)) {
            const int pixel = int(h * p.columns.size + w);
            const auto seen = load_vector<kN>(x + int64_t(pixel) * p.channels);
#pragma unroll
            for (int e = 0; e < kN; ++e) {
                const Acc value = convert<Acc>(seen[e]);
                if (value > best.value[e] || value != value) {
                    best.value[e] = value;
                    best.pixel[e] = pixel;
                }
            }
        }
    return best;
}

template <class T, int kN>
__global__ void __launch_bounds__(kPoolThreads, kPoolBlocksPerSM)
max_pool_kernel(T* __restrict__ out, int32_t* __restrict__ indices, const T* __restrict__ x, PoolProblem p, int lanes) {
    const int64_t image = int64_t(p.rows.size) * p.columns.size * p.channels;
    for_each<kN>(p, p.rows.out, p.columns.out, lanes, [&](const Place& at) {
        const auto best = largest<kN>(x + at.image * image + at.channel, p, at.row, at.column);
        Vector<T, kN> y;
#pragma unroll
        for (int e = 0; e < kN; ++e) y[e] = convert<T>(best.value[e]);
        store_vector(out + at.element, y);
        if (indices)
#pragma unroll
            for (int e = 0; e < kN; ++e) indices[at.element + e] = best.pixel[e];
    });
}

template <class T, int kN>
__global__ void __launch_bounds__(kPoolThreads, kPoolBlocksPerSM)
max_pool_backward_kernel(T* __restrict__ out, const T* __restrict__ grad, const T* __restrict__ x,
                         const int32_t* __restrict__ indices, PoolProblem p, int lanes) {
    using Acc = accumulator_t<T>;
    const int64_t image = int64_t(p.rows.size) * p.columns.size * p.channels;
    for_each<kN>(p, p.rows.size, p.columns.size, lanes, [&](const Place& at) {
        const int pixel = at.row * p.columns.size + at.column;
        const Range rows = windows_of(p.rows, at.row), columns = windows_of(p.columns, at.column);
        Acc sum[kN] = {};
        for (int row = rows.begin; row < rows.end; ++row) {
            if (!holds(p.rows, row, at.row)) continue;
            for (int column = columns.begin; column < columns.end; ++column) {
                if (!holds(p.columns, column, at.column)) continue;
                const int64_t from = ((at.image * p.rows.out + row) * p.columns.out + column) * p.channels + at.channel;
                Largest<T, kN> best;
                if (x) {
                    best = largest<kN>(x + at.image * image + at.channel, p, row, column);
                } else {
#pragma unroll
                    for (int e = 0; e < kN; ++e) best.pixel[e] = indices[from + e];
                }
                const auto g = load_vector<kN>(grad + from);
#pragma unroll
                for (int e = 0; e < kN; ++e)
                    if (best.pixel[e] == pixel) sum[e] += convert<Acc>(g[e]);
            }
        }
        Vector<T, kN> y;
#pragma unroll
        for (int e = 0; e < kN; ++e) y[e] = convert<T>(sum[e]);
        store_vector(out + at.element, y);
    });
}

template <class T, int kN>
__global__ void __launch_bounds__(kPoolThreads, kPoolBlocksPerSM)
avg_pool_kernel(T* __restrict__ out, const T* __restrict__ x, PoolProblem p, AveragePool average, int lanes) {
    using Acc = accumulator_t<T>;
    const int64_t image = int64_t(p.rows.size) * p.columns.size * p.channels;
    for_each<kN>(p, p.rows.out, p.columns.out, lanes, [&](const Place& at) {
        const Range rows = window(p.rows, at.row), columns = window(p.columns, at.column);
        Acc sum[kN] = {};
        for (int h = rows.begin; h < rows.end; ++h)
            for (int w = columns.begin; w < columns.end; ++w) {
                const auto seen =
                    load_vector<kN>(x + at.image * image + (int64_t(h) * p.columns.size + w) * p.channels + at.channel);
#pragma unroll
                for (int e = 0; e < kN; ++e) sum[e] += convert<Acc>(seen[e]);
            }
        const Acc by = divisor<Acc>(p, average, at.row, at.column);
        Vector<T, kN> y;
#pragma unroll
        for (int e = 0; e < kN; ++e) y[e] = convert<T>(sum[e] / by);
        store_vector(out + at.element, y);
    });
}

template <class T, int kN>
__global__ void __launch_bounds__(kPoolThreads, kPoolBlocksPerSM)
avg_pool_backward_kernel(T* __restrict__ out, const T* __restrict__ grad, PoolProblem p, AveragePool average,
                         int lanes) {
    using Acc = accumulator_t<T>;
    for_each<kN>(p, p.rows.size, p.columns.size, lanes, [&](const Place& at) {
        const Range rows = windows_of(p.rows, at.row), columns = windows_of(p.columns, at.column);
        Acc sum[kN] = {};
        for (int row = rows.begin; row < rows.end; ++row)
            for (int column = columns.begin; column < columns.end; ++column) {
                const auto g = load_vector<kN>(
                    grad + ((at.image * p.rows.out + row) * p.columns.out + column) * p.channels + at.channel);
                // One division a window: each is a call, around which registers spill.
                const Acc share = 1 / divisor<Acc>(p, average, row, column);
#pragma unroll
                for (int e = 0; e < kN; ++e) sum[e] += convert<Acc>(g[e]) * share;
            }
        Vector<T, kN> y;
#pragma unroll
        for (int e = 0; e < kN; ++e) y[e] = convert<T>(sum[e]);
        store_vector(out + at.element, y);
    });
}

int64_t images(const PoolProblem& p) { return p.batch * p.rows.size * p.columns.size; }
int64_t results(const PoolProblem& p) { return p.batch * p.rows.out * p.columns.out; }

// Calls f(type, width) for the dtype and the config's channels at a time.
template <class F>
void dispatch(DType dtype, const PoolConfig& config, F&& f) {
    dispatch_floating(dtype, [&](auto tag) {
        constexpr int kWide = 16 / int(sizeof(typename decltype(tag)::type));
        if (config.vector == 1) return f(tag, std::integral_constant<int, 1>{});
        if (config.vector == kWide) return f(tag, std::integral_constant<int, kWide>{});
        throw std::invalid_argument("pool: the config's vector is not 1 nor what fills 16 bytes");
    });
}

}  // namespace

void max_pool(void* out, int32_t* indices, const void* x, DType dtype, const PoolProblem& problem,
              const PoolConfig& config, cudaStream_t stream) {
    dispatch(dtype, config, [&](auto tag, auto width) {
        using T = typename decltype(tag)::type;
        gpu::launch<max_pool_kernel<T, decltype(width)::value>>(dim3(config.grid(results(problem))), dim3(kPoolThreads),
                                                                0, stream, static_cast<T*>(out), indices,
                                                                static_cast<const T*>(x), problem, config.lanes);
    });
}

void max_pool_backward(void* out, const void* grad, const void* x, const int32_t* indices, DType dtype,
                       const PoolProblem& problem, const PoolConfig& config, cudaStream_t stream) {
    dispatch(dtype, config, [&](auto tag, auto width) {
        using T = typename decltype(tag)::type;
        gpu::launch<max_pool_backward_kernel<T, decltype(width)::value>>(
            dim3(config.grid(images(problem))), dim3(kPoolThreads), 0, stream, static_cast<T*>(out),
            static_cast<const T*>(grad), static_cast<const T*>(x), indices, problem, config.lanes);
    });
}

void avg_pool(void* out, const void* x, DType dtype, const PoolProblem& problem, const AveragePool& average,
              const PoolConfig& config, cudaStream_t stream) {
    dispatch(dtype, config, [&](auto tag, auto width) {
        using T = typename decltype(tag)::type;
        gpu::launch<avg_pool_kernel<T, decltype(width)::value>>(
            dim3(config.grid(results(problem))), dim3(kPoolThreads), 0, stream, static_cast<T*>(out),
            static_cast<const T*>(x), problem, average, config.lanes);
    });
}

void avg_pool_backward(void* out, const void* grad, DType dtype, const PoolProblem& problem, const AveragePool& average,
                       const PoolConfig& config, cudaStream_t stream) {
    dispatch(dtype, config, [&](auto tag, auto width) {
        using T = typename decltype(tag)::type;
        gpu::launch<avg_pool_backward_kernel<T, decltype(width)::value>>(
            dim3(config.grid(images(problem))), dim3(kPoolThreads), 0, stream, static_cast<T*>(out),
            static_cast<const T*>(grad), problem, average, config.lanes);
    });
}
