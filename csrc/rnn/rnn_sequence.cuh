// What both walks along a sequence are built from: the product of a tile, whose terms the warps of a block divide among
// themselves, and the counter by which blocks wait for one another.
#pragma once
#include "../device/convert.cuh"
#include "../device/vector.cuh"
#include "../host/dtype.h"
#include "../ptx/sm80.h"
#include "rnn_sequence_config.h"
#include <type_traits>

template <class T_, int kColumns_>
struct SequenceTile {
    using T = T_;
    using Sum = accumulator_t<T>;
    static constexpr int kColumns = kColumns_, kGroups = kColumns / 8;
    static constexpr int kVector = 16 / sizeof(T), kChunk = sequence_chunk(sizeof(T)),
                         kPitch = sequence_pitch(sizeof(T));
    static constexpr int kWarpBytes = sequence_warp_bytes(sizeof(T), kColumns);
    static constexpr int kSumPitch = kColumns + 8;
    static constexpr int kVectors = kChunk / kVector;                // of a row in a chunk
    static constexpr int kLaneRows = kSequenceRows * kVectors / 32;  // vectors that a lane fetches
    static constexpr int kLaneColumns = (kColumns * kVectors + 31) / 32;
    static constexpr int kElements = (kSequenceRows * kColumns + kSequenceThreads - 1) / kSequenceThreads;
    // Four sums of each lane in each group of 8 columns; where they lie in the tile is sum_row and sum_column.
    using Sums = Sum[kGroups][4];
    using Terms = Vector<T, kVector>;

    static constexpr bool kTensorCores = sizeof(T) == 2;
    __device__ static int sum_row(int lane, int v) { return kTensorCores ? lane / 4 + v / 2 * 8 : lane / 8 + 4 * v; }
    __device__ static int sum_column(int lane, int group, int v) {
        return 8 * group + (kTensorCores ? lane % 4 * 2 + v % 2 : lane % 8);
    }
};

// kVector terms from `row`, zeros where there is no row or no more terms.
template <class Tile>
__device__ __forceinline__ typename Tile::Terms
fetch_terms(const typename Tile::T* row, int64_t term, int64_t terms, bool aligned) {
    typename Tile::Terms v{};
    if (!row || term >= terms) return v;
    if (aligned) return load_vector<Tile::kVector>(row + term);
#pragma unroll
    for (int i = 0; i < Tile::kVector; ++i)
        if (term + i < terms) v[i] = row[term + i];
    return v;
}

// The weights of a tile's columns. Forward a column is gate c / units of unit first_unit + c % units, and its terms lie side
// by side; backward column c is unit first_unit + c, and its terms are `hidden` apart.
template <class Tile>
struct SequenceWeights {
    using T = typename Tile::T;
    const T* weight;  // (gates * hidden, hidden)
    int64_t hidden, terms;
    int gates, units;
    bool backward, aligned;

    // Vector i of 32 lanes' kLaneColumns in the chunk from `term`: forward along the terms, backward along the units, where
    // that is shorter reads of whole sectors.
    struct Place { int column, term; };
    __device__ Place place(int i) const {
        if (!backward) return {i / Tile::kVectors, i % Tile::kVectors * Tile::kVector};
        constexpr int kAcross = Tile::kColumns / Tile::kVector;
        return {i % kAcross * Tile::kVector, i / kAcross};
    }
    static constexpr int kCount = Tile::kColumns * Tile::kVectors;

    __device__ typename Tile::Terms fetch(int i, int64_t first_unit, int64_t term) const {
        const Place at = place(i);
        if (backward)
            return fetch_terms<Tile>(term + at.term < terms ? weight + (term + at.term) * hidden : nullptr,
                                     first_unit + at.column, hidden, aligned);
        const int gate = at.column / units;
        const int64_t unit = first_unit + at.column % units;
        return fetch_terms<Tile>(gate < gates && unit < hidden ? weight + (gate * hidden + unit) * hidden : nullptr,
                                 term + at.term, terms, aligned);
    }
    // to: (kColumns, pitch), at the chunk's first term
    __device__ void put(T* to, int64_t pitch, int i, const typename Tile::Terms& v) const {
        const Place at = place(i);
        if (!backward) {
            store_vector<Tile::kVector>(to + at.column * pitch + at.term, v);
            return;
        }
#pragma unroll
        for (int j = 0; j < Tile::kVector; ++j) to[(at.column + j) * pitch + at.term] = v[j];
    }
};

// sums += rows (16, kChunk) times columns (kColumns, kChunk), both with their terms side by side.
template <class Tile>
__device__ __forceinline__ void multiply_chunk(const typename Tile::T* rows, const typename Tile::T* columns,
                                               int64_t column_pitch, typename Tile::Sums& sums) {
    using T = typename Tile::T;
    const int lane = threadIdx.x % 32;
    if constexpr (Tile::kTensorCores) {
        const auto mma = [](float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
            if constexpr (std::is_same_v<T, __half>) ptx::mma_m16n8k16_fp16(d, a, b);
            else ptx::mma_m16n8k16_bf16(d, a, b);
        };
#pragma unroll
        for (int k = 0; k < Tile::kChunk; k += 16) {
            uint32_t a[4];
            ptx::ldmatrix_x4(a, rows + lane % 16 * Tile::kPitch + k + lane / 16 * 8);
            if constexpr (Tile::kGroups == 1) {
                uint32_t b[2];
                ptx::ldmatrix_x2(b, columns + lane % 8 * column_pitch + k + lane / 8 % 2 * 8);
                mma(sums[0], a, b);
            } else {
#pragma unroll
                for (int g = 0; g < Tile::kGroups; g += 2) {
                    uint32_t b[4];
                    ptx::ldmatrix_x4(
                        b, columns + (8 * g + lane % 8 + lane / 16 * 8) * column_pitch + k + lane / 8 % 2 * 8);
                    const uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};
                    mma(sums[g], a, low);
                    mma(sums[g + 1], a, high);
                }
            }
        }
    } else {
        const T *const row = rows + lane / 8 * Tile::kPitch, *const column = columns + lane % 8 * column_pitch;
#pragma unroll 1  // further ones would spill
        for (int k = 0; k < Tile::kChunk; k += Tile::kVector) {
            typename Tile::Terms r[4], c[Tile::kGroups];
#pragma unroll
            for (int v = 0; v < 4; ++v) r[v] = load_vector<Tile::kVector>(row + 4 * v * Tile::kPitch + k);
#pragma unroll
            for (int g = 0; g < Tile::kGroups; ++g)
                c[g] = load_vector<Tile::kVector>(column + 8 * g * column_pitch + k);
#pragma unroll
            for (int i = 0; i < Tile::kVector; ++i)
#pragma unroll
                for (int g = 0; g < Tile::kGroups; ++g)
#pragma unroll
                    for (int v = 0; v < 4; ++v) sums[g][v] += r[v][i] * c[g][i];
        }
    }
}

// Each warp's part of the products of a tile of rows with a tile of columns: it takes every eighth chunk of terms, adds each
// chunk's sums to totals (float64 sums on), and leaves those in its part of shared memory, (16, kSumPitch), for sum_at after a __syncthreads.
// rows: the vectors that this lane fetches of them; null: zeros. kept: this tile's columns whole, (kColumns, kept_pitch),
// or null: the weights are read into `stage`, this warp's.
template <class Tile>
__device__ __forceinline__ void
multiply_tile(unsigned char* part, typename Tile::T* stage, const typename Tile::T* const (&rows)[Tile::kLaneRows],
              bool rows_aligned, const SequenceWeights<Tile>& weights, int64_t first_unit, const typename Tile::T* kept,
              int64_t kept_pitch) {
    using Weights = SequenceWeights<Tile>;
    using Sum = typename Tile::Sum;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    auto* const e = reinterpret_cast<typename Tile::T*>(part);
    const int64_t chunks = (weights.terms + Tile::kChunk - 1) / Tile::kChunk;
    typename Tile::Sums totals = {};
    typename Tile::Terms next_rows[Tile::kLaneRows], next_columns[Tile::kLaneColumns];
    const auto fetch = [&](int64_t chunk) {
        const int64_t term = chunk * Tile::kChunk;
#pragma unroll
        for (int i = 0; i < Tile::kLaneRows; ++i)
            next_rows[i] =
                fetch_terms<Tile>(rows[i], term + lane % Tile::kVectors * Tile::kVector, weights.terms, rows_aligned);
        if (kept) return;
#pragma unroll
        for (int i = 0; i < Tile::kLaneColumns; ++i)
            if (lane + 32 * i < Weights::kCount) next_columns[i] = weights.fetch(lane + 32 * i, first_unit, term);
    };
    if (warp < chunks) fetch(warp);
    for (int64_t chunk = warp; chunk < chunks; chunk += kSequenceWarps) {
        __syncwarp();  // every lane has read the chunk before
#pragma unroll
        for (int i = 0; i < Tile::kLaneRows; ++i) {
            const int at = lane + 32 * i;
            store_vector<Tile::kVector>(e + at / Tile::kVectors * Tile::kPitch + at % Tile::kVectors * Tile::kVector,
                                        next_rows[i]);
        }
        if (!kept)
#pragma unroll
            for (int i = 0; i < Tile::kLaneColumns; ++i)
                if (lane + 32 * i < Weights::kCount) weights.put(stage, Tile::kPitch, lane + 32 * i, next_columns[i]);
        __syncwarp();
        if (chunk + kSequenceWarps < chunks) fetch(chunk + kSequenceWarps);
        const typename Tile::T* const w = kept ? kept + chunk * Tile::kChunk : stage;
        const int64_t pitch = kept ? kept_pitch : Tile::kPitch;
        if constexpr (std::is_same_v<Sum, double>) {  // a second set of sums would not fit the registers, nor be needed
            multiply_chunk<Tile>(e, w, pitch, totals);
        } else {
            typename Tile::Sums sums = {};
            multiply_chunk<Tile>(e, w, pitch, sums);
#pragma unroll
            for (int g = 0; g < Tile::kGroups; ++g)
#pragma unroll
                for (int v = 0; v < 4; ++v) totals[g][v] += sums[g][v];
        }
    }
    __syncwarp();
    auto* const sums = reinterpret_cast<Sum*>(part);
#pragma unroll
    for (int g = 0; g < Tile::kGroups; ++g)
#pragma unroll
        for (int v = 0; v < 4; ++v)
            sums[Tile::sum_row(lane, v) * Tile::kSumPitch + Tile::sum_column(lane, g, v)] = totals[g][v];
}

// The sum over all warps' parts, which begin at `shared`.
template <class Tile>
__device__ __forceinline__ typename Tile::Sum sum_at(const unsigned char* shared, int row, int column) {
    typename Tile::Sum sum = 0;
#pragma unroll
    for (int w = 0; w < kSequenceWarps; ++w)
        sum +=
            reinterpret_cast<const typename Tile::Sum*>(shared + w * Tile::kWarpBytes)[row * Tile::kSumPitch + column];
    return sum;
}

// What a block is of the grid, and how it waits for the others that walk with it. Every block of a group takes part in the
// same steps, so that each counts for itself how many arrivals there must be.
struct SequenceGroup {
    int direction, row_group, unit_group;
    uint32_t* arrived;
    uint32_t expected, blocks;

    __device__ SequenceGroup(const RnnSequenceConfig& c, uint32_t* counters) {
        const int block = blockIdx.x;
        unit_group = block % c.unit_groups;
        row_group = block / c.unit_groups % c.row_groups;
        direction = block / c.unit_groups / c.row_groups;
        arrived = counters + int64_t(direction * c.row_groups + row_group) * kSequenceCounters;
        expected = 0, blocks = c.unit_groups;
    }
    // Until all blocks have arrived as often as this one has; all that they wrote before is then there to read.
    __device__ void wait() const {
        if (blocks == 1 || expected == 0) return;
        if (threadIdx.x == 0)
            while (int32_t(ptx::load_acquire(arrived) - expected) < 0) gpu::yield();
        __syncthreads();
    }
    // After a __syncthreads that follows the block's last write.
    __device__ void arrive() {
        if (blocks > 1 && threadIdx.x == 0) ptx::add_release(arrived, 1);
        expected += blocks;
    }
};
