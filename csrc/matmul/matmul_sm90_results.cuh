// The block of a kernel around matmul_sm90_ring.cuh: its tile, and what its consumers' sums become on their way out.
#pragma once
#include "matmul_epilogue.cuh"
#include "matmul_sm90_config.h"
#include "matmul_sm90_ring.cuh"

namespace matmul_sm90 {

template <class T>
constexpr ptx::Element kElement = sizeof(T) == 4                      ? ptx::Element::fp32
                                  : std::is_same_v<T, __nv_bfloat16> ? ptx::Element::bf16
                                                                     : ptx::Element::fp16;

constexpr int kRun = 8;                          // results that a thread finishes at once
constexpr int kUnit = 64 * 128;                  // bytes of 64 rows of results that one TMA store takes out

// One warpgroup's sums, 64 x kN of a tile, on their way out. `thread`: in the warpgroup.
template <class T, int kN>
struct Results {
    int thread, group;                           // group: which named barrier is this warpgroup's
    unsigned char* staging;
    int unit = 0;                                // which half of the staging the next TMA store takes

    __device__ __forceinline__ void sync() const { ptx::bar_sync(group, 128); }

    // f(row, column, two neighbours) of the sums of columns kFirst to kFirst + kCount - 1; the column counts from kFirst.
    template <int kCount, class F>
    __device__ __forceinline__ void each_pair(const float (&sums)[kN / 2], int first, F f) const {
        const int lane = thread % 32;
#pragma unroll
        for (int v = 0; v < kCount / 2; v += 2)
            f(thread / 32 * 16 + lane / 4 + v / 2 % 2 * 8, v / 4 * 8 + lane % 4 * 2,
              Vector<float, 2>{{sums[first / 2 + v], sums[first / 2 + v + 1]}});
    }

    // Part of a tile: float32, `pitch` from row to row.
    __device__ __forceinline__ void leave(const float (&sums)[kN / 2], float* to, int pitch) const {
        each_pair<kN>(sums, 0, [&](int row, int column, const Vector<float, 2>& v) {
            store_vector(to + row * pitch + column, v);
        });
    }

    // Sums of rows, to `partial` (64,) or, where that is null, to x.row_sums.
    template <class Sums>
    __device__ __forceinline__ void leave_row_sums(const Sums& rows, const MatmulArguments& x, int product, int row0,
                                                   float* partial) const {
        float* const staged = reinterpret_cast<float*>(staging);
        if (thread == 0) ptx::tma_store_wait_read<0>();
        sync();                                  // what was staged before has been read
        rows.stage(staged, thread);
        sync();
        if (thread >= 64) return;
        float total = staged[thread];
        for (int i = 1; i < Sums::kParts; ++i) total += staged[i * Sums::kPitch + thread];
        if (partial) partial[thread] = total;
        else if (row0 + thread < x.m) static_cast<T*>(x.row_sums)[int64_t(product) * x.m + row0 + thread] = convert<T>(total);
    }

    // 64 rows of 128 bytes are staged while TMA stores the 64 before them.
    template <bool kWide>
    __device__ __forceinline__ void store(const float (&sums)[kN / 2], float alpha, const ptx::TensorMap* map,
                                          int product, int row0, int column0, const MatmulArguments& x) {
        constexpr int kColumns = kWide ? 32 : 64;
        const int lane = thread % 32;
#pragma unroll
        for (int first = 0; first < kN; first += kColumns) {
            unsigned char* const to = staging + unit * kUnit;
            unit ^= 1;
            if (thread == 0) ptx::tma_store_wait_read<1>();          // the store before last has read this half
            sync();
            if constexpr (kWide) {
                each_pair<kColumns>(sums, first, [&](int row, int column, Vector<float, 2> v) {
                    v[0] *= alpha, v[1] *= alpha;
                    const int at = row * kRowBytes + ((column / 4 ^ (row & 7)) << 4) + column % 4 * 4;
                    store_vector(reinterpret_cast<float*>(to + at), v);
                });
            } else {
#pragma unroll
                for (int j = 0; j < 4; ++j) {    // 16 columns
                    uint32_t r[4];
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        const int v = first / 2 + j * 8 + i * 2;
                        r[i] = pack<T>(sums[v] * alpha, sums[v + 1] * alpha);
                    }
                    const int row = thread / 32 * 16 + lane % 16, chunk = j * 2 + lane / 16;
                    ptx::stmatrix_x4(to + row * kRowBytes + ((chunk ^ (row & 7)) << 4), r);
                }
            }
            ptx::fence_proxy_async();
            sync();
            if (thread == 0) {
                if (row0 < x.m && column0 + first < x.n)
                    ptx::tma_store_3d(map, to, column0 + first, row0, product);
                ptx::tma_store_commit();
            }
        }
    }

    // Everything else that may become of a sum: 64 columns are staged as float32, then f(row, column, value) has them in
    // runs of kRun or, where `runs` is false, of one. see(first, staged): once for each 64 columns from `first`, which lie
    // at staged_index<64>(row, column).
    template <class F, class See = SeesNoResults>
    __device__ __forceinline__ void finish(const float (&sums)[kN / 2], bool runs, F f, See&& see = {}) const {
        float* const staged = reinterpret_cast<float*>(staging);
#pragma unroll 1
        for (int first = 0; first < kN; first += 64) {
            sync();                              // the columns before have been read
#pragma unroll
            for (int i = 0; i < kN; i += 64) {   // which registers is known to the compiler
                if (i != first) continue;
                each_pair<64>(sums, i, [&](int row, int column, const Vector<float, 2>& v) {
                    store_vector(staged + staged_index<64>(row, column), v);
                });
            }
            sync();
            if (runs) {
#pragma unroll 1
                for (int i = thread; i < 64 * 64 / kRun; i += 128) {
                    const int row = i / (64 / kRun), column = i % (64 / kRun) * kRun;
                    float value[kRun];
                    read_staged(value, staged + staged_index<64>(row, column));
                    f(row, first + column, value);
                }
            } else {
#pragma unroll 1
                for (int i = thread; i < 64 * 64; i += 128) {
                    const int row = i / 64, column = i % 64;
                    float value[1] = {staged[staged_index<64>(row, column)]};
                    f(row, first + column, value);
                }
            }
            see(first, staged);
        }
    }
};

// A block's tile, of kDown x kAcross consumers, 64 rows and kN columns each, behind a warpgroup that produces. Its shared
// memory: (stages, kStage), (kConsumers, staging), (2, stages) mbarriers.
template <int kDown, int kAcross, int kN>
struct Tile {
    static constexpr int kConsumers = kDown * kAcross, kThreads = 128 * (kConsumers + 1);
    static constexpr int kRows = 64 * kDown, kColumns = kN * kAcross;
    static constexpr int kABytes = kRows * kRowBytes, kBBytes = kColumns * kRowBytes, kStage = kABytes + kBBytes;

    static __device__ __forceinline__ unsigned char* staging(unsigned char* shared, int stages) { return shared + stages * kStage; }
    static __device__ __forceinline__ Ring ring(unsigned char* shared, int stages) {
        auto* const barriers = reinterpret_cast<uint64_t*>(staging(shared, stages) + kConsumers * kMatmulSm90Staging);
        return {barriers, barriers + stages, stages};
    }
    // By a thread of consumer `consumer`.
    template <class T>
    static __device__ __forceinline__ Results<T, kN> results(unsigned char* shared, int stages, int consumer) {
        return {int(threadIdx.x) % 128, consumer + 1, staging(shared, stages) + consumer * kMatmulSm90Staging};
    }
};

}  // namespace matmul_sm90
