// Activations and their derivatives, for float and double. One run-time branch that a whole launch takes alike, so that
// no kernel is instantiated per activation. Formulas and corner cases are PyTorch's (torch.nn.functional).
#pragma once
#include "../gpu.h"
#include "../host/activation.h"

namespace activation_detail {

template <class F> __device__ __forceinline__ F sigmoid(F x) {
    // exp of a non-positive number only: never overflows, and small results keep their relative accuracy.
    F e = exp(x < 0 ? x : -x);
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

template <class F> __device__ __forceinline__ F softplus(F x, F beta) {
    F scaled = x * beta;
    return scaled > 20 ? x : log1p(exp(scaled)) / beta;  // PyTorch's threshold
}

constexpr double kSqrtHalf = 0.70710678118654752440, kInvSqrt2Pi = 0.39894228040143267794;
constexpr double kSqrt2OverPi = 0.79788456080286535588, kCubic = 0.044715;

template <class F> __device__ __forceinline__ F normal_cdf(F x) { return F(0.5) * erfc(-x * F(kSqrtHalf)); }

}  // namespace activation_detail

template <class F>
__device__ __forceinline__ F activate(Activation kind, F x, F parameter) {
    using namespace activation_detail;
    switch (kind) {
        case Activation::none: return x;
        case Activation::relu: return x <= 0 ? F(0) : x;  // NaN stays NaN
        case Activation::leaky_relu: return x > 0 ? x : x * parameter;
        case Activation::elu: return x > 0 ? x : parameter * expm1(x);
        case Activation::gelu: return x * normal_cdf(x);
        case Activation::gelu_tanh: return F(0.5) * x * (1 + tanh(F(kSqrt2OverPi) * (x + F(kCubic) * x * x * x)));
        case Activation::silu: return x * sigmoid(x);
        case Activation::mish: return x * tanh(log1p(exp(x > 20 ? F(20) : x)));  // tanh is 1 from 20 on
        case Activation::softplus: return softplus(x, parameter);
        case Activation::sigmoid: return sigmoid(x);
        case Activation::tanh: return tanh(x);
        case Activation::hardswish: return x <= -3 ? F(0) * x : x >= 3 ? x : x * (x + 3) / 6;
    }
    return x;
}

// One copy of the activations' code, however many a thread has to apply.
template <class Sum>
GPU_NOINLINE __device__ Sum activate_once(ActivationChoice activation, Sum x) {
    return activate(activation.kind, x, Sum(activation.parameter));
}

// d activate(x) / dx.
template <class F>
__device__ __forceinline__ F activate_gradient(Activation kind, F x, F parameter) {
    using namespace activation_detail;
    switch (kind) {
        case Activation::none: return 1;
        case Activation::relu: return x <= 0 ? F(0) : F(1);
        case Activation::leaky_relu: return x > 0 ? F(1) : parameter;
        case Activation::elu: return x > 0 ? F(1) : parameter * exp(x);
        case Activation::gelu: return normal_cdf(x) + x * F(kInvSqrt2Pi) * exp(F(-0.5) * x * x);
        case Activation::gelu_tanh: {
            F t = tanh(F(kSqrt2OverPi) * (x + F(kCubic) * x * x * x));
            return F(0.5) * (1 + t) + F(0.5) * x * (1 - t * t) * F(kSqrt2OverPi) * (1 + F(3 * kCubic) * x * x);
        }
        case Activation::silu: {
            F s = sigmoid(x);
            return s * (1 + x * (1 - s));
        }
        case Activation::mish: {
            F t = tanh(log1p(exp(x > 20 ? F(20) : x)));
            return t + x * (1 - t * t) * sigmoid(x);
        }
        case Activation::softplus: return x * parameter > 20 ? F(1) : sigmoid(x * parameter);
        case Activation::sigmoid: {
            F s = sigmoid(x);
            return s * (1 - s);
        }
        case Activation::tanh: {
            F t = tanh(x);
            return 1 - t * t;
        }
        case Activation::hardswish: return x <= -3 ? F(0) : x >= 3 ? F(1) : x / 3 + F(0.5);
    }
    return 1;
}
