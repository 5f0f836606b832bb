// Reductions over a team of threads: 2^k lanes of a warp (several teams a warp), or all the warps of a block.
//
// Butterflies of a commutative operation: every thread of the team gets the same bits, in an order that depends on the
// size of the team alone. All threads of the block must call, whether or not their team has work.
#pragma once
#include "../gpu.h"
#include <limits>

constexpr int kMaxWarps = 32;

template <class A> inline constexpr A kInfinity = std::numeric_limits<A>::infinity();
template <class A> inline constexpr A kNaN = std::numeric_limits<A>::quiet_NaN();

struct Add {
    template <class T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};

// The pair of an online softmax: the largest of some numbers, and the sum of exp(x - max) over them.
// max is never NaN: a NaN among the numbers is in the sum.
template <class A>
struct MaxSum {
    A max, sum;
    __device__ static MaxSum identity() { return {-kInfinity<A>, A(0)}; }
};

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }

// exp(from - to) for from <= to, 1 where both are the same infinity.
template <class A>
__device__ __forceinline__ A rescale(A from, A to) {
    return from == to ? A(1) : exponential(from - to);
}

// Symmetric to the bit even where the compiler fuses multiply and add: it is always the smaller maximum's sum that is
// scaled, and a factor of 1 (equal maxima) is exact.
struct CombineMaxSum {
    template <class A>
    __device__ __forceinline__ MaxSum<A> operator()(MaxSum<A> a, MaxSum<A> b) const {
        const bool swap = a.max < b.max;
        const A high = swap ? b.max : a.max, low = swap ? a.max : b.max;
        const A high_sum = swap ? b.sum : a.sum, low_sum = swap ? a.sum : b.sum;
        return {high, high_sum + low_sum * rescale(low, high)};
    }
};

// Adds N numbers to the pair with one rescaling.
template <class A, int N>
__device__ __forceinline__ void include(MaxSum<A>& pair, const A (&x)[N]) {
    A high = pair.max;
#pragma unroll
    for (int i = 0; i < N; ++i) high = x[i] > high ? x[i] : high;  // passes over NaN
    A sum = pair.sum * rescale(pair.max, high);
#pragma unroll
    for (int i = 0; i < N; ++i) sum += rescale(x[i], high);
    pair = {high, sum};
}

template <class T>
__device__ __forceinline__ T exchange(T value, int with) {
    return __shfl_xor_sync(0xFFFFFFFFu, value, with);
}
template <class A>
__device__ __forceinline__ MaxSum<A> exchange(MaxSum<A> pair, int with) {
    return {exchange(pair.max, with), exchange(pair.sum, with)};
}

// Over `width` consecutive lanes, a power of two.
template <class T, class Op>
__device__ __forceinline__ T warp_reduce(T value, int width, Op op) {
    for (int with = width / 2; with > 0; with /= 2) value = op(value, exchange(value, with));
    return value;
}

// Over a team of 1 to 32 lanes or, beyond that, the whole block of `team` threads (a power of two).
// partial: kMaxWarps elements of shared memory, contents lost; may be used again by the next call at once.
template <class T, class Op>
__device__ __forceinline__ T team_reduce(T value, int team, T* partial, Op op) {
    value = warp_reduce(value, team < 32 ? team : 32, op);
    if (team > 32) {
        const int warps = team / 32;
        __syncthreads();  // earlier readers of partial are done
        if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
        __syncthreads();
        value = warp_reduce(partial[threadIdx.x & (warps - 1)], warps, op);
    }
    return value;
}

// Over threads r = 0 .. team - 1 that stand `columns` apart in the block (thread = r * columns + column), in the order
// of r. partial: blockDim.x elements of shared memory.
template <class T, class Op>
__device__ __forceinline__ T column_reduce(T value, int team, int columns, T* partial, Op op) {
    if (team == 1) return value;
    __syncthreads();
    partial[threadIdx.x] = value;
    __syncthreads();
    const int column = threadIdx.x % columns;
    value = partial[column];
    for (int r = 1; r < team; ++r) value = op(value, partial[r * columns + column]);
    return value;
}
