// Conversions between storage and accumulator types, rounding to nearest even.
#pragma once
#include "../gpu.h"

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
