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

// Moments of kN columns, of which a thread sees the same rows.
template <class A, int kN>
struct VectorMoments {
    static constexpr int kFields = 2 * kN + 1;

    A count = 0, mean[kN] = {}, squares[kN] = {};

    __device__ __forceinline__ void combine(A more, const A (&other_mean)[kN], const A (&other_squares)[kN]) {
        const A all = count + more;
        if (all == 0) return;
        const A share = more / all;
#pragma unroll
        for (int v = 0; v < kN; ++v) {
            const A delta = other_mean[v] - mean[v];
            mean[v] += delta * share, squares[v] += other_squares[v] + delta * delta * (count * share);
        }
        count = all;
    }

    // Those rows of x that are real.
    template <int kRows>
    __device__ __forceinline__ void include(const A (&x)[kRows][kN], const bool (&real)[kRows]) {
        A more = 0, sums[kN] = {}, deviations[kN] = {};
#pragma unroll
        for (int i = 0; i < kRows; ++i) more += A(real[i]);
        const A scale = more > 0 ? 1 / more : A(0);
#pragma unroll
        for (int v = 0; v < kN; ++v) {
#pragma unroll
            for (int i = 0; i < kRows; ++i) sums[v] += real[i] ? x[i][v] : A(0);
            sums[v] *= scale;
#pragma unroll
            for (int i = 0; i < kRows; ++i) {
                const A deviation = real[i] ? x[i][v] - sums[v] : A(0);
                deviations[v] += deviation * deviation;
            }
        }
        combine(more, sums, deviations);
    }

    // To and from shared memory, kFields places a stride apart.
    __device__ __forceinline__ void put(A* at, int stride) const {
        at[0] = count;
#pragma unroll
        for (int v = 0; v < kN; ++v) at[(1 + v) * stride] = mean[v], at[(1 + kN + v) * stride] = squares[v];
    }
    __device__ __forceinline__ void take(const A* at, int stride) {
        count = at[0];
#pragma unroll
        for (int v = 0; v < kN; ++v) mean[v] = at[(1 + v) * stride], squares[v] = at[(1 + kN + v) * stride];
    }

    // Those of all threads of a block, a power of two, that lie a multiple of `lanes` apart, in the first `lanes` threads:
    // the lower half takes in the upper, again and again. shared: (kFields, kThreads / 2), behind a barrier; ends with one.
    template <int kThreads>
    __device__ __forceinline__ void merge(A* shared, int lanes) {
        const int thread = int(threadIdx.x);
#pragma unroll 1
        for (int half = kThreads / 2; half >= lanes; half /= 2) {
            A* const at = shared + thread % half;
            if (thread >= half && thread < 2 * half) put(at, kThreads / 2);
            __syncthreads();
            if (thread < half) {
                VectorMoments other;
                other.take(at, kThreads / 2);
                combine(other.count, other.mean, other.squares);
            }
            __syncthreads();
        }
    }

    // To columns of `to` (3, channels) of a part, the first `valid` of the kN.
    __device__ __forceinline__ void leave(A* to, int64_t channels, int valid) const {
#pragma unroll
        for (int v = 0; v < kN; ++v)
            if (v < valid) to[v] = count, to[channels + v] = mean[v], to[2 * channels + v] = squares[v];
    }
};
