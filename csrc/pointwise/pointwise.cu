// Bias, activation and residual in one pass, and the gradient. Memory-bound: 16-byte accesses, every value read once.
#include "pointwise.h"
#include "pointwise_fused.cuh"

namespace {

template <class T, int kN>
__global__ void __launch_bounds__(kPointwiseThreads)
bias_activation_kernel(T* out, BiasedInput<T> in, const T* residual, int64_t n, Activation kind,
                       accumulator_t<T> parameter) {
    using Acc = accumulator_t<T>;
    const int64_t stride = int64_t(gridDim.x) * kPointwiseThreads * kN;
    for (int64_t i = (int64_t(blockIdx.x) * kPointwiseThreads + threadIdx.x) * kN; i < n; i += stride) {
        Acc value[kN];
        in.template load<kN>(value, i);
        Vector<T, kN> r, y;
        if (residual) r = load_vector<kN>(residual + i);
#pragma unroll
        for (int e = 0; e < kN; ++e) {
            Acc a = activate(kind, value[e], parameter);
            y[e] = convert<T>(residual ? a + convert<Acc>(r[e]) : a);
        }
        store_vector(out + i, y);
    }
}

template <class T, int kN>
__global__ void __launch_bounds__(kPointwiseThreads)
bias_activation_backward_kernel(T* out, const T* grad, BiasedInput<T> in, int64_t n, Activation kind,
                                accumulator_t<T> parameter) {
    using Acc = accumulator_t<T>;
    const int64_t stride = int64_t(gridDim.x) * kPointwiseThreads * kN;
    for (int64_t i = (int64_t(blockIdx.x) * kPointwiseThreads + threadIdx.x) * kN; i < n; i += stride) {
        Acc value[kN];
        in.template load<kN>(value, i);
        auto g = load_vector<kN>(grad + i);
        Vector<T, kN> y;
#pragma unroll
        for (int e = 0; e < kN; ++e)
            y[e] = convert<T>(convert<Acc>(g[e]) * activate_gradient(kind, value[e], parameter));
        store_vector(out + i, y);
    }
}

}  // namespace

void bias_activation(void* out, const void* x, const void* bias, const void* residual, DType dtype, int64_t rows,
                     int64_t cols, ActivationChoice activation, const PointwiseConfig& config, cudaStream_t stream) {
    const int64_t n = rows * cols;
    if (n == 0) return;
    dispatch_pointwise(dtype, config.vector, [&](auto tag, auto width) {
        using T = typename decltype(tag)::type;
        BiasedInput<T> in{static_cast<const T*>(x), static_cast<const T*>(bias), cols};
        gpu::launch<bias_activation_kernel<T, decltype(width)::value>>(
            dim3(config.grid(n)), dim3(kPointwiseThreads), 0, stream, static_cast<T*>(out), in,
            static_cast<const T*>(residual), n, activation.kind, accumulator_t<T>(activation.parameter));
    });
}

void bias_activation_backward(void* out, const void* grad, const void* x, const void* bias, DType dtype, int64_t rows,
                              int64_t cols, ActivationChoice activation, const PointwiseConfig& config,
                              cudaStream_t stream) {
    const int64_t n = rows * cols;
    if (n == 0) return;
    dispatch_pointwise(dtype, config.vector, [&](auto tag, auto width) {
        using T = typename decltype(tag)::type;
        BiasedInput<T> in{static_cast<const T*>(x), static_cast<const T*>(bias), cols};
        gpu::launch<bias_activation_backward_kernel<T, decltype(width)::value>>(
            dim3(config.grid(n)), dim3(kPointwiseThreads), 0, stream, static_cast<T*>(out), static_cast<const T*>(grad),
            in, n, activation.kind, accumulator_t<T>(activation.parameter));
    });
}
