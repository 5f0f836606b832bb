// The element types kernels are built for, and the step from a run-time dtype to a template argument.
#pragma once
#include "../gpu.h"
#include <stdexcept>
#include <string>

enum class DType { float32, float64, float16, bfloat16, int32, int64, uint8, bool_, uint32, uint64 };

template <class T> struct TypeTag { using type = T; };

// The type in which values of T are summed and transcendental functions are computed.
template <class T> struct AccumulatorOf { using type = float; };
template <> struct AccumulatorOf<double> { using type = double; };
template <> struct AccumulatorOf<int32_t> { using type = int32_t; };
template <> struct AccumulatorOf<int64_t> { using type = int64_t; };
template <> struct AccumulatorOf<uint8_t> { using type = uint8_t; };  // wraps modulo 256, as PyTorch's does
template <class T> using accumulator_t = typename AccumulatorOf<T>::type;

// Calls f(TypeTag<T>{}) for the floating-point type that `dtype` names.
template <class F>
decltype(auto) dispatch_floating(DType dtype, F&& f) {
    switch (dtype) {
        case DType::float32: return f(TypeTag<float>{});
        case DType::float64: return f(TypeTag<double>{});
        case DType::float16: return f(TypeTag<__half>{});
        case DType::bfloat16: return f(TypeTag<__nv_bfloat16>{});
        default: throw std::invalid_argument("a floating-point dtype is needed here");
    }
}
