// Gated units (Dauphin et al. 2017; Shazeer 2020) and their gradients in one pass each. Memory-bound: 16-byte accesses,
// every value read once. Gate and up may be the halves of one product's rows.
#include "pointwise.h"
#include "pointwise_fused.cuh"

namespace {

// Element i of (rows, cols) in C order: its row and column.
struct RowAndColumn {
    int64_t row, column;

    __device__ __forceinline__ RowAndColumn(int64_t i, int64_t cols) {
        // 64-bit division costs some hundred instructions: only where indices need it.
        row = i <= 0x7FFFFFFF && cols <= 0x7FFFFFFF ? int64_t(uint32_t(i) / uint32_t(cols)) : i / cols;
        column = i - row * cols;
    }
    __device__ __forceinline__ int64_t at(int64_t stride) const { return row * stride + column; }
};

template <class T, int kN>
__global__ void __launch_bounds__(kPointwiseThreads)
gated_activation_kernel(T* out, const T* gate, const T* up, int64_t n, int64_t cols, const GatedStrides strides,
                        Activation kind, accumulator_t<T> parameter) {
    using Acc = accumulator_t<T>;
    const int64_t step = int64_t(gridDim.x) * kPointwiseThreads * kN;
    for (int64_t i = (int64_t(blockIdx.x) * kPointwiseThreads + threadIdx.x) * kN; i < n; i += step) {
        const RowAndColumn place(i, cols);
        const auto g = load_vector<kN>(gate + place.at(strides.gate)), u = load_vector<kN>(up + place.at(strides.up));
        Vector<T, kN> y;
#pragma unroll
        for (int e = 0; e < kN; ++e)
            y[e] = convert<T>(activate(kind, convert<Acc>(g[e]), parameter) * convert<Acc>(u[e]));
        store_vector(out + place.at(strides.out), y);
    }
}

template <class T, int kN>
__global__ void __launch_bounds__(kPointwiseThreads)
gated_activation_backward_kernel(T* gate_grad, T* up_grad, const T* grad, const T* gate, const T* up, int64_t n,
                                 int64_t cols, const GatedStrides strides, Activation kind,
                                 accumulator_t<T> parameter) {
    using Acc = accumulator_t<T>;
    const int64_t step = int64_t(gridDim.x) * kPointwiseThreads * kN;
    for (int64_t i = (int64_t(blockIdx.x) * kPointwiseThreads + threadIdx.x) * kN; i < n; i += step) {
        const RowAndColumn place(i, cols);
        const auto d = load_vector<kN>(grad + place.at(strides.grad)),
                   g = load_vector<kN>(gate + place.at(strides.gate)), u = load_vector<kN>(up + place.at(strides.up));
        Vector<T, kN> of_gate, of_up;
#pragma unroll
        for (int e = 0; e < kN; ++e) {
            const Acc x = convert<Acc>(g[e]), dy = convert<Acc>(d[e]);
            of_gate[e] = convert<T>(dy * convert<Acc>(u[e]) * activate_gradient(kind, x, parameter));
            of_up[e] = convert<T>(dy * activate(kind, x, parameter));
        }
        store_vector(gate_grad + place.at(strides.gate_grad), of_gate);
        store_vector(up_grad + place.at(strides.up_grad), of_up);
    }
}

}  // namespace

void gated_activation(void* out, const void* gate, const void* up, DType dtype, int64_t rows, int64_t cols,
                      const GatedStrides& strides, ActivationChoice activation, const PointwiseConfig& config,
                      cudaStream_t stream) {
    const int64_t n = rows * cols;
    if (n == 0) return;
    dispatch_pointwise(dtype, config.vector, [&](auto tag, auto width) {
        using T = typename decltype(tag)::type;
        gpu::launch<gated_activation_kernel<T, decltype(width)::value>>(
            dim3(config.grid(n)), dim3(kPointwiseThreads), 0, stream, static_cast<T*>(out), static_cast<const T*>(gate),
            static_cast<const T*>(up), n, cols, strides, activation.kind, accumulator_t<T>(activation.parameter));
    });
}

void gated_activation_backward(void* gate_grad, void* up_grad, const void* grad, const void* gate, const void* up,
                               DType dtype, int64_t rows, int64_t cols, const GatedStrides& strides,
                               ActivationChoice activation, const PointwiseConfig& config, cudaStream_t stream) {
    const int64_t n = rows * cols;
    if (n == 0) return;
    dispatch_pointwise(dtype, config.vector, [&](auto tag, auto width) {
        using T = typename decltype(tag)::type;
        gpu::launch<gated_activation_backward_kernel<T, decltype(width)::value>>(
            dim3(config.grid(n)), dim3(kPointwiseThreads), 0, stream, static_cast<T*>(gate_grad),
            static_cast<T*>(up_grad), static_cast<const T*>(grad), static_cast<const T*>(gate),
            static_cast<const T*>(up), n, cols, strides, activation.kind, accumulator_t<T>(activation.parameter));
    });
}
