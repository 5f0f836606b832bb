// Runs of neighbouring elements as floats, and the tile of results in shared memory that they pass through on their way.
#pragma once
#include "convert.cuh"
#include "vector.cuh"

// kN neighbours: as accesses of 16 bytes, or one.
template <int kN, class T>
__device__ __forceinline__ void store_run(T* to, const float (&value)[kN]) {
    constexpr int kPiece = kN * sizeof(T) <= 16 ? kN : 16 / int(sizeof(T));
#pragma unroll
    for (int i = 0; i < kN; i += kPiece) {
        Vector<T, kPiece> v;
#pragma unroll
        for (int j = 0; j < kPiece; ++j) v[j] = convert<T>(value[i + j]);
        store_vector(to + i, v);
    }
}
template <int kN, class T>
__device__ __forceinline__ void load_run(float (&value)[kN], const T* from) {
    constexpr int kPiece = kN * sizeof(T) <= 16 ? kN : 16 / int(sizeof(T));
#pragma unroll
    for (int i = 0; i < kN; i += kPiece) {
        const Vector<T, kPiece> v = load_vector<kPiece>(from + i);
#pragma unroll
        for (int j = 0; j < kPiece; ++j) value[i + j] = convert<float>(v[j]);
    }
}

// Where a result is staged in a tile of kColumns floats: pairs of a half-warp, four rows of eight, then meet 32 banks.
template <int kColumns>
__device__ __forceinline__ int staged_index(int row, int column) {
    return row * kColumns + (column ^ ((kColumns >= 32 ? row & 3 : row >> 1 & 1) << 3));
}

// kN staged results. Eight lanes are served at a time; where each reads two vectors, half of them begin with the second,
// so that the eight meet 32 banks.
template <int kN>
__device__ __forceinline__ void read_staged(float (&value)[kN], const float* from) {
    if constexpr (kN == 4) {
        const Vector<float, 4> v = load_vector<4>(from);
#pragma unroll
        for (int i = 0; i < 4; ++i) value[i] = v[i];
    } else {
        static_assert(kN == 8);
        const bool late = threadIdx.x / 4 % 2;
        const Vector<float, 4> first = load_vector<4>(from + (late ? 4 : 0)),
                               second = load_vector<4>(from + (late ? 0 : 4));
#pragma unroll
        for (int i = 0; i < 4; ++i) value[i] = late ? second[i] : first[i], value[4 + i] = late ? first[i] : second[i];
    }
}

// What looks at staged results beside their way out, where nothing does.
struct SeesNoResults {
    template <class... Given> __device__ __forceinline__ void operator()(const Given&...) const {}
};
