// Conversions between storage and accumulator types, rounding to nearest even.
#pragma once
#include "../gpu.h"
#include <cstring>
#include <type_traits>

template <class To, class From>
__device__ __forceinline__ To convert(From x) {
    return static_cast<To>(x);
}

template <> __device__ __forceinline__ float convert<float, __half>(__half x) { return __half2float(x); }
template <> __device__ __forceinline__ float convert<float, __nv_bfloat16>(__nv_bfloat16 x) {
    return __bfloat162float(x);
}
template <> __device__ __forceinline__ __half convert<__half, float>(float x) { return __float2half_rn(x); }
template <> __device__ __forceinline__ __nv_bfloat16 convert<__nv_bfloat16, float>(float x) {
    return __float2bfloat16_rn(x);
}

// Two neighbours of a 16-bit type as one register, the first in its low half.
template <class T>
__device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t pair;
    if constexpr (std::is_same_v<T, __half>) {
        const __half2 v = __floats2half2_rn(low, high);
        memcpy(&pair, &v, 4);
    } else {
        const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
        memcpy(&pair, &v, 4);
    }
    return pair;
}
