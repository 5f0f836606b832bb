// What happens to gradients between backward and the step: their norm as one vector, the search for infinities, and the
// factor of a scaled loss. All results stay in device memory.
#include "../device/reduce.cuh"
#include "optim_lists.cuh"

namespace {

template <class T>
__device__ __forceinline__ bool finite(T x) {
    return x - x == T(0);
}

// Adds one element to the sum of squares, and to the count of those that are not finite.
template <class Acc>
__device__ __forceinline__ void include(Acc x, Acc& sum, int& infinite) {
    sum += x * x;
    infinite += !finite(x);
}

template <class T>
__global__ void __launch_bounds__(kOptimThreads)
squares_kernel(const __grid_constant__ OptimList<1> list, double* __restrict__ partials, int chunk) {
    GPU_SHARED(memory);
    double* shared = reinterpret_cast<double*>(memory);  // (kMaxWarps,)
    using Acc = accumulator_t<T>;
    constexpr int kCount = 16 / sizeof(T);
    const int index = list.find(blockIdx.x);
    const auto& entry = list.entries[index];
    const T* grad = static_cast<const T*>(entry.pointers[0]);  // (size,)
    const int64_t first = int64_t(blockIdx.x - list.first_block[index]) * chunk;
    const int64_t last = min(first + chunk, entry.size);
    Acc sum = 0;
    int infinite = 0;
    int64_t done = first;
    if (aligned16(grad)) {
        done = first + (last - first) / kCount * kCount;
        for (int64_t i = first + int64_t(threadIdx.x) * kCount; i < done; i += kOptimThreads * kCount) {
            const Vector<T, kCount> pack = load_vector<kCount>(grad + i);
#pragma unroll
            for (int k = 0; k < kCount; ++k) include(convert<Acc>(pack[k]), sum, infinite);
        }
    }
    for (int64_t i = done + threadIdx.x; i < last; i += kOptimThreads) include(convert<Acc>(grad[i]), sum, infinite);
    const double total = team_reduce(double(sum), kOptimThreads, shared, Add{});
    const double count = team_reduce(double(infinite), kOptimThreads, shared, Add{});
    if (threadIdx.x == 0) {
        partials[2 * int64_t(blockIdx.x)] = total;
        partials[2 * int64_t(blockIdx.x) + 1] = count;
    }
}

__global__ void __launch_bounds__(kOptimThreads) state_kernel(const double* __restrict__ partials, int64_t rows,
                                                              const float* __restrict__ scale, double max_norm,
                                                              double* __restrict__ state) {
    GPU_SHARED(memory);
    double* shared = reinterpret_cast<double*>(memory);  // (kMaxWarps,)
    double sum = 0, infinite = 0;
    for (int64_t i = threadIdx.x; i < rows; i += kOptimThreads) {
        sum += partials[2 * i];
        infinite += partials[2 * i + 1];
    }
    sum = team_reduce(sum, kOptimThreads, shared, Add{});
    infinite = team_reduce(infinite, kOptimThreads, shared, Add{});
    if (threadIdx.x == 0) {
        const double inverse = scale ? 1 / double(*scale) : 1;
        const double norm = sqrt(sum) * inverse;
        double clip = max_norm < 0 ? 1 : max_norm / (norm + 1e-6);
        if (clip > 1) clip = 1;  // NaN stays
        state[kGradientNorm] = norm;
        state[kGradientFactor] = clip * inverse;
        state[kGradientSkip] = scale && infinite > 0 ? 1 : 0;
    }
}

template <class T>
__global__ void __launch_bounds__(kOptimThreads)
scale_kernel(const __grid_constant__ OptimList<1> list, const double* __restrict__ state, int chunk) {
    using Acc = accumulator_t<T>;
    constexpr int kCount = 16 / sizeof(T);
    const Acc factor = Acc(state[kGradientFactor]);
    const int index = list.find(blockIdx.x);
    const auto& entry = list.entries[index];
    T* grad = static_cast<T*>(entry.pointers[0]);  // (size,)
    const int64_t first = int64_t(blockIdx.x - list.first_block[index]) * chunk;
    const int64_t last = min(first + chunk, entry.size);
    int64_t done = first;
    if (aligned16(grad)) {
        done = first + (last - first) / kCount * kCount;
        for (int64_t i = first + int64_t(threadIdx.x) * kCount; i < done; i += kOptimThreads * kCount) {
            Vector<T, kCount> pack = load_vector<kCount>(grad + i);
#pragma unroll
            for (int k = 0; k < kCount; ++k) pack[k] = convert<T>(convert<Acc>(pack[k]) * factor);
            store_vector(grad + i, pack);
        }
    }
    for (int64_t i = done + threadIdx.x; i < last; i += kOptimThreads)
        grad[i] = convert<T>(convert<Acc>(grad[i]) * factor);
}

__global__ void
loss_scale_kernel(float* scale, int* tracker, const double* state, double growth, double backoff, int interval) {
    if (state[kGradientSkip] != 0) {
        *scale = float(*scale * backoff);
        *tracker = 0;
    } else if (*tracker + 1 == interval) {
        const float grown = float(*scale * growth);
        if (finite(grown)) *scale = grown;
        *tracker = 0;
    } else {
        *tracker += 1;
    }
}

}  // namespace

int64_t gradient_norm_blocks(const std::vector<OptimArray>& arrays, const OptimConfig& config) {
    check(config);
    int64_t total = 0;
    for_each_list<1>(arrays, config.chunk, [&](const OptimList<1>&, unsigned blocks) { total += blocks; });
    return total;
}

void gradient_squares(const std::vector<OptimArray>& arrays, DType dtype, double* partials, const OptimConfig& config,
                      cudaStream_t stream) {
    check(config);
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        for_each_list<1>(arrays, config.chunk, [&](const OptimList<1>& list, unsigned blocks) {
            gpu::launch<squares_kernel<T>>(dim3(blocks), dim3(kOptimThreads), kMaxWarps * sizeof(double), stream, list,
                                           partials, config.chunk);
            partials += 2 * int64_t(blocks);
        });
    });
}

void gradient_state(const double* partials, int64_t rows, const float* scale, double max_norm, double* state,
                    cudaStream_t stream) {
    gpu::launch<state_kernel>(dim3(1), dim3(kOptimThreads), kMaxWarps * sizeof(double), stream, partials, rows, scale,
                              max_norm, state);
}

void scale_gradients(const std::vector<OptimArray>& arrays, DType dtype, const double* state, const OptimConfig& config,
                     cudaStream_t stream) {
    check(config);
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        for_each_list<1>(arrays, config.chunk, [&](const OptimList<1>& list, unsigned blocks) {
            gpu::launch<scale_kernel<T>>(dim3(blocks), dim3(kOptimThreads), 0, stream, list, state, config.chunk);
        });
    });
}

void update_loss_scale(float* scale, int* tracker, const double* state, double growth, double backoff, int interval,
                       cudaStream_t stream) {
    gpu::launch<loss_scale_kernel>(dim3(1), dim3(1), 0, stream, scale, tracker, state, growth, backoff, interval);
}
