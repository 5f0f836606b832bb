// Mean and variance in one sweep: moments of parts, which are combined without cancellation.
#pragma once
#include "reduce.cuh"

// Count, mean and sum of squared deviations of some numbers.
template <class A>
struct Moments {
    A count, mean, squares;
    __device__ static Moments identity() { return {A(0), A(0), A(0)}; }
};

template <class A>
__device__ __forceinline__ Moments<A> exchange(Moments<A> m, int with) {
    return {exchange(m.count, with), exchange(m.mean, with), exchange(m.squares, with)};
}

// Chan, Golub and LeVeque 1983: of the union of two sets. Symmetric to the bit: it is always the distance from the
// smaller mean that is scaled.
struct CombineMoments {
    template <class A>
    __device__ __forceinline__ Moments<A> operator()(Moments<A> a, Moments<A> b) const {
        const bool swap = a.mean < b.mean;
        const A high = swap ? b.mean : a.mean, low = swap ? a.mean : b.mean;
        const A high_count = swap ? b.count : a.count, low_count = swap ? a.count : b.count;
        const A count = high_count + low_count;
        if (count == 0) return a;
        const A share = high_count / count, delta = high - low;
        return {count, low + delta * share, (a.squares + b.squares) + delta * delta * (low_count * share)};
    }
};

// Adds N numbers with one division.
template <class A, int N>
__device__ __forceinline__ void include(Moments<A>& m, const A (&x)[N]) {
    A sum = 0, squares = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) sum += x[i];
    const A mean = sum * A(1.0 / N);
#pragma unroll
    for (int i = 0; i < N; ++i) squares += (x[i] - mean) * (x[i] - mean);
    m = CombineMoments()(m, Moments<A>{A(N), mean, squares});
}

// The moments of each column of a tile in shared memory, by kThreads threads that have one column or share it with
// neighbours in their warp.
template <class A, int kColumns, int kThreads>
struct ColumnMoments {
    static constexpr int kLanes = kThreads / kColumns, kEach = 4 / kLanes;
    static_assert(kColumns * kLanes == kThreads && kEach * kLanes == 4, "1, 2 or 4 threads a column");
    static constexpr int kStep = 4 * kLanes;  // rows that a column's threads take at once

    int column, lane;
    Moments<A> moments = Moments<A>::identity();

    __device__ __forceinline__ explicit ColumnMoments(int thread) : column(thread / kLanes), lane(thread % kLanes) {}

    // value(row) of the column for those of `rows` rows, a multiple of kStep, that real(row) says are. A lane has its part
    // of each four rows, since staged results of a row lie in other banks than those of its neighbours.
    template <class Real, class Value>
    __device__ __forceinline__ void see(int rows, Real real, Value value) {
#pragma unroll 1
        for (int row0 = lane * kEach; row0 < rows; row0 += kStep) {
            A values[4];
            bool all = true;
#pragma unroll
            for (int i = 0; i < 4; ++i) all = all && real(row0 + i / kEach * 4 + i % kEach);
            if (all) {
#pragma unroll
                for (int i = 0; i < 4; ++i) values[i] = value(row0 + i / kEach * 4 + i % kEach);
                include(moments, values);
            } else {
#pragma unroll 1
                for (int i = 0; i < 4; ++i) {
                    const int row = row0 + i / kEach * 4 + i % kEach;
                    if (!real(row)) continue;
                    const A one[1] = {value(row)};
                    include(moments, one);
                }
            }
        }
    }

    // What all of the column's lanes have seen, and to `to` (3, channels) of a part by one of them, where the column is
    // below `columns`. All threads of a warp must call.
    __device__ __forceinline__ void leave(A* to, int64_t channels, int64_t columns) {
#pragma unroll
        for (int with = 1; with < kLanes; with *= 2) moments = CombineMoments()(moments, exchange(moments, with));
        if (lane || column >= columns) return;
        to[column] = moments.count, to[channels + column] = moments.mean, to[2 * channels + column] = moments.squares;
    }
};
