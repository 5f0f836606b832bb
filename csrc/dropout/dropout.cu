// Dropout fused with bias, activation and residual, and its gradient. One Philox call serves four elements.
#include "../device/philox.cuh"
#include "../pointwise/pointwise_fused.cuh"
#include "dropout.h"

namespace {

// Which of the kN elements from i on are kept. i is a multiple of kN, which is 1 or a multiple of 4.
template <int kN>
__device__ __forceinline__ void draw_mask(bool (&kept)[kN], const DropoutDraw& draw, PhiloxState state, int64_t i) {
    if constexpr (kN == 1) {
        kept[0] = philox_word(state.seed, uint64_t(i), state.offset) >> 8 >= draw.threshold;
    } else {
#pragma unroll
        for (int q = 0; q < kN; q += 4) {
            uint4 w = philox(state.seed, uint64_t(i + q) >> 2, state.offset);
#pragma unroll
            for (int e = 0; e < 4; ++e) kept[q + e] = word(w, e) >> 8 >= draw.threshold;
        }
    }
}

__device__ __forceinline__ PhiloxState read_state(const DropoutDraw& draw) {
    return {draw.state[0], draw.state[1] + draw.offset};
}

template <class T, int kN>
__global__ void __launch_bounds__(kPointwiseThreads)
dropout_kernel(T* out, BiasedInput<T> in, const T* residual, int64_t n, DropoutDraw draw, Activation kind,
               accumulator_t<T> parameter) {
    using Acc = accumulator_t<T>;
    const PhiloxState state = read_state(draw);
    const Acc scale = Acc(draw.scale);
    const int64_t stride = int64_t(gridDim.x) * kPointwiseThreads * kN;
    for (int64_t i = (int64_t(blockIdx.x) * kPointwiseThreads + threadIdx.x) * kN; i < n; i += stride) {
        Acc value[kN];
        bool kept[kN];
        in.template load<kN>(value, i);
        Vector<T, kN> r, y;
        if (residual) r = load_vector<kN>(residual + i);
        draw_mask(kept, draw, state, i);
#pragma unroll
        for (int e = 0; e < kN; ++e) {
            Acc a = kept[e] ? activate(kind, value[e], parameter) * scale : Acc(0);
            y[e] = convert<T>(residual ? a + convert<Acc>(r[e]) : a);
        }
        store_vector(out + i, y);
    }
}

template <class T, int kN>
__global__ void __launch_bounds__(kPointwiseThreads)
dropout_backward_kernel(T* out, const T* grad, BiasedInput<T> in, int64_t n, DropoutDraw draw, Activation kind,
                        accumulator_t<T> parameter) {
    using Acc = accumulator_t<T>;
    const PhiloxState state = read_state(draw);
    const Acc scale = Acc(draw.scale);
    const int64_t stride = int64_t(gridDim.x) * kPointwiseThreads * kN;
    for (int64_t i = (int64_t(blockIdx.x) * kPointwiseThreads + threadIdx.x) * kN; i < n; i += stride) {
        Acc value[kN] = {};
        bool kept[kN];
        if (kind != Activation::none) in.template load<kN>(value, i);
        auto g = load_vector<kN>(grad + i);
        Vector<T, kN> y;
        draw_mask(kept, draw, state, i);
#pragma unroll
        for (int e = 0; e < kN; ++e)
            y[e] = convert<T>(kept[e] ? convert<Acc>(g[e]) * scale * activate_gradient(kind, value[e], parameter)
                                      : Acc(0));
        store_vector(out + i, y);
    }
}

template <int kN>
__global__ void __launch_bounds__(kPointwiseThreads) dropout_mask_kernel(bool* out, int64_t n, DropoutDraw draw) {
    const PhiloxState state = read_state(draw);
    const int64_t stride = int64_t(gridDim.x) * kPointwiseThreads * kN;
    for (int64_t i = (int64_t(blockIdx.x) * kPointwiseThreads + threadIdx.x) * kN; i < n; i += stride) {
        bool kept[kN];
        draw_mask(kept, draw, state, i);
        Vector<bool, kN> y;
#pragma unroll
        for (int e = 0; e < kN; ++e) y[e] = kept[e];
        store_vector(out + i, y);
    }
}

}  // namespace

void dropout(void* out, const void* x, const void* bias, const void* residual, DType dtype, int64_t rows, int64_t cols,
             DropoutDraw draw, ActivationChoice activation, const DropoutConfig& config, cudaStream_t stream) {
    const int64_t n = rows * cols;
    if (n == 0) return;
    dispatch_pointwise(dtype, config.vector, [&](auto tag, auto width) {
        using T = typename decltype(tag)::type;
        BiasedInput<T> in{static_cast<const T*>(x), static_cast<const T*>(bias), cols};
        gpu::launch<dropout_kernel<T, decltype(width)::value>>(
            dim3(config.grid(n)), dim3(kPointwiseThreads), 0, stream, static_cast<T*>(out), in,
            static_cast<const T*>(residual), n, draw, activation.kind, accumulator_t<T>(activation.parameter));
    });
}

void dropout_backward(void* out, const void* grad, const void* x, const void* bias, DType dtype, int64_t rows,
                      int64_t cols, DropoutDraw draw, ActivationChoice activation, const DropoutConfig& config,
                      cudaStream_t stream) {
    const int64_t n = rows * cols;
    if (n == 0) return;
    dispatch_pointwise(dtype, config.vector, [&](auto tag, auto width) {
        using T = typename decltype(tag)::type;
        BiasedInput<T> in{static_cast<const T*>(x), static_cast<const T*>(bias), cols};
        gpu::launch<dropout_backward_kernel<T, decltype(width)::value>>(
            dim3(config.grid(n)), dim3(kPointwiseThreads), 0, stream, static_cast<T*>(out), static_cast<const T*>(grad),
            in, n, draw, activation.kind, accumulator_t<T>(activation.parameter));
    });
}

void dropout_mask(bool* out, int64_t n, DropoutDraw draw, const DropoutConfig& config, cudaStream_t stream) {
    if (n == 0) return;
    dim3 grid{config.grid(n)}, block{kPointwiseThreads};
    if (config.vector == 1) gpu::launch<dropout_mask_kernel<1>>(grid, block, 0, stream, out, n, draw);
    else if (config.vector == 16) gpu::launch<dropout_mask_kernel<16>>(grid, block, 0, stream, out, n, draw);
    else throw std::invalid_argument("dropout_mask config: vector must be 1 or 16");
}
