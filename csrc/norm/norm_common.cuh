// What the normalisation kernels share: parameters, elements in memory order.
#pragma once
#include "../device/convert.cuh"
#include "../device/moments.cuh"
#include "../device/vector.cuh"
#include "norm.h"

template <class T> constexpr int kNormElements = 16 / sizeof(T);

__device__ __forceinline__ float reciprocal_root(float x) { return 1 / sqrtf(x); }
__device__ __forceinline__ double reciprocal_root(double x) { return 1 / sqrt(x); }

// values[i] = element i at `from`, or at `from + i * stride` for a single one.
template <int N, class T, class A>
__device__ __forceinline__ void load(A (&values)[N], const T* from) {
    if constexpr (N == 1) {
        values[0] = convert<A>(*from);
    } else {
        const auto pack = load_vector<N>(from);
#pragma unroll
        for (int i = 0; i < N; ++i) values[i] = convert<A>(pack[i]);
    }
}

template <int N, class T, class A>
__device__ __forceinline__ void store(T* to, const A (&values)[N]) {
    if constexpr (N == 1) {
        *to = convert<T>(values[0]);
    } else {
        Vector<T, N> pack;
#pragma unroll
        for (int i = 0; i < N; ++i) pack[i] = convert<T>(values[i]);
        store_vector(to, pack);
    }
}

// The parameter of one channel, or `otherwise` where there is none.
template <class T, class A>
__device__ __forceinline__ A parameter(const NormParameter& p, int64_t channel, A otherwise) {
    if (!p.data) return otherwise;
    if constexpr (sizeof(T) == 2)
        if (p.wide) return static_cast<const float*>(p.data)[channel];
    return convert<A>(static_cast<const T*>(p.data)[channel]);
}

// Of N neighbouring elements: those of N channels, or N times that of one. `vector`: parameters begin on 16 bytes.
template <int N, class T, class A>
__device__ __forceinline__ void
parameters(A (&values)[N], const NormParameter& p, int64_t channel, bool of_channels, A otherwise) {
    if (!of_channels || !p.data) {
        const A one = parameter<T>(p, channel, otherwise);
#pragma unroll
        for (int i = 0; i < N; ++i) values[i] = one;
        return;
    }
    if constexpr (sizeof(T) == 2 && N > 1) {
        if (p.wide) {
            const float* from = static_cast<const float*>(p.data) + channel;
#pragma unroll
            for (int i = 0; i < N; i += 4) {
                const auto quad = load_vector<4>(from + i);
#pragma unroll
                for (int j = 0; j < 4; ++j) values[i + j] = quad[j];
            }
            return;
        }
    }
    if constexpr (N > 1) load<N>(values, static_cast<const T*>(p.data) + channel);
    else values[0] = parameter<T>(p, channel, otherwise);
}

template <class T, class A>
__device__ __forceinline__ void store_parameter(const NormParameter& p, int64_t channel, A value) {
    if (!p.data) return;
    if constexpr (sizeof(T) == 2)
        if (p.wide) {
            static_cast<float*>(p.data)[channel] = value;
            return;
        }
    static_cast<T*>(p.data)[channel] = convert<T>(value);
}

// Whether vectors of T can be loaded from a parameter at multiples of their length.
template <class T>
inline bool vector_parameter(const NormParameter& p) {
    return p.wide ? aligned_for<4>(static_cast<const float*>(p.data))
                  : aligned_for<kNormElements<T>>(static_cast<const T*>(p.data));
}

// Elements of an array in memory order: `lines` of `inner` neighbours each.
struct NormLines {
    int64_t lines, inner;
    bool channels_last;  // along a line the channel changes; else it is the same
};

struct NormSteps { int64_t line, inner; };

inline NormSteps steps(const NormStrides& s, bool channels_last) {
    return channels_last ? NormSteps{s.s, s.c} : NormSteps{s.c, s.s};
}

// Whether every line of an array, each group's first channel being a multiple of `group_channels`, can be read in vectors.
template <class T>
inline bool vector_lines(const void* base, const NormStrides& s, const NormShape& shape, int64_t group_channels) {
    constexpr int64_t kN = kNormElements<T>;
    const NormSteps step = steps(s, shape.channels_last);
    if (!base) return true;
    if (!aligned_for<kN>(static_cast<const T*>(base)) || step.inner != 1 || (shape.n > 1 && s.n % kN)) return false;
    if (shape.channels_last)
        return (shape.s <= 1 || s.s % kN == 0) && (shape.c == group_channels || group_channels % kN == 0);
    return shape.c <= 1 || s.c % kN == 0;
}
