// What pointwise and dropout kernels have in common: a value plus a bias through an activation, by vectors of elements.
#pragma once
#include "../device/activation.cuh"
#include "../device/convert.cuh"
#include "../device/vector.cuh"
#include "../host/dtype.h"

// x + bias as an operand of the activation. The bias runs along the last axis.
template <class T>
struct BiasedInput {
    const T* x;     // (rows * cols)
    const T* bias;  // (cols) or null
    int64_t cols;

    // The kN elements from i on; i is a multiple of kN and, where there is a bias, so is cols.
    template <int kN>
    __device__ __forceinline__ void load(accumulator_t<T> (&out)[kN], int64_t i) const {
        using Acc = accumulator_t<T>;
        auto v = load_vector<kN>(x + i);
#pragma unroll
        for (int e = 0; e < kN; ++e) out[e] = convert<Acc>(v[e]);
        if (!bias) return;
        // 64-bit division costs some hundred instructions: only where indices need it.
        int64_t c = i <= 0x7FFFFFFF && cols <= 0x7FFFFFFF ? int64_t(uint32_t(i) % uint32_t(cols)) : i % cols;
        auto b = load_vector<kN>(bias + c);
#pragma unroll
        for (int e = 0; e < kN; ++e) out[e] += convert<Acc>(b[e]);
    }
};

// Calls f(TypeTag<T>, integral_constant<int, kN>) for the dtype and the vector width of a config.
template <class F>
void dispatch_pointwise(DType dtype, int vector, F&& f) {
    dispatch_floating(dtype, [&](auto tag) {
        constexpr int kFull = sizeof(typename decltype(tag)::type) >= 4 ? 4 : 8;
        if (vector == 1) f(tag, std::integral_constant<int, 1>{});
        else if (vector == kFull) f(tag, std::integral_constant<int, kFull>{});
        else
            throw std::invalid_argument("pointwise config: vector must be 1 or " + std::to_string(kFull) +
                                        " for this dtype");
    });
}
