// Sixteen bytes of elements at once where pointers allow it.
#pragma once
#include "../gpu.h"

// kN elements of T, loaded and stored as one access when kN * sizeof(T) is 2 to 16 bytes.
template <class T, int kN>
struct alignas(sizeof(T) * kN) Vector {
    T v[kN];
    __device__ __forceinline__ T& operator[](int i) { return v[i]; }
    __device__ __forceinline__ const T& operator[](int i) const { return v[i]; }
};

template <int kN, class T>
__device__ __forceinline__ Vector<T, kN> load_vector(const T* p) {
    return *reinterpret_cast<const Vector<T, kN>*>(p);
}

template <int kN, class T>
__device__ __forceinline__ void store_vector(T* p, const Vector<T, kN>& v) {
    *reinterpret_cast<Vector<T, kN>*>(p) = v;
}

// Whether kN elements at p, and at every multiple of kN elements from it, can be one access. Null pointers can.
template <int kN, class T>
inline bool aligned_for(const T* p) {
    return reinterpret_cast<uintptr_t>(p) % (sizeof(T) * kN) == 0;
}
