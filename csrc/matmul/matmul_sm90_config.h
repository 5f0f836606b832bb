// The sm90 family: wgmma fed by TMA, for float16 and bfloat16 on Hopper.
#pragma once
#include "matmul_config.h"

#include <algorithm>

// A block's tile, and how its consumer warpgroups share it: `down` x `across` of them, 64 rows each. The sums of 64 x N are
// N / 2 registers a thread. 128x256 has the most products a byte of shared memory and is the tile of large products; 192
// columns divide what models have (768, 2304, 3072) where 256 do not.
struct MatmulSm90Tile {
    int rows, columns, down, across;
};
constexpr MatmulSm90Tile kMatmulSm90Tiles[] = {
    {128, 256, 2, 1}, {128, 192, 2, 1}, {128, 128, 2, 1}, {128, 64, 2, 1},
    {64, 256, 1, 2},  {64, 128, 1, 2},  {64, 64, 1, 1},
};

constexpr int kMatmulSm90Step = 64;              // k of a stage: rows of 128 bytes, one swizzle span
constexpr int kMatmulSm90Staging = 16 * 1024;    // bytes of a consumer's results on their way out
constexpr int kMatmulSm90MinStages = 3, kMatmulSm90MaxStages = 8;

constexpr bool matmul_sm90_has(DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; }

inline const MatmulSm90Tile* matmul_sm90_tile(int rows, int columns) {
    for (const MatmulSm90Tile& t : kMatmulSm90Tiles)
        if (t.rows == rows && t.columns == columns) return &t;
    return nullptr;
}

// Of the peak, at the clock of a busy device: published large products reach 0.8 of the datasheet's with N = 256, and the
// fewer columns an instruction has, the more of its time goes into a's rows.
constexpr double matmul_sm90_efficiency(const MatmulSm90Tile& t) { return 0.65 + 0.2 * t.columns / t.across / 256; }

// Stages, staging of every consumer, then two mbarriers a stage.
inline int matmul_sm90_shared_bytes(const MatmulConfig& c) {
    const MatmulSm90Tile* t = matmul_sm90_tile(c.rows, c.columns);
    return c.stages * (c.rows + c.columns) * kMatmulSm90Step * 2 + t->down * t->across * kMatmulSm90Staging + c.stages * 16;
}

// As many stages as Hopper's 227 KiB hold, up to 6: more than the latency of memory asks for gain nothing.
inline int matmul_sm90_stages(int rows, int columns) {
    MatmulConfig c;
    c.rows = rows, c.columns = columns, c.stages = 6;
    while (matmul_sm90_shared_bytes(c) > 227 * 1024) --c.stages;
    return c.stages;
}

// How the steps of all tiles are divided, the same for the kernel, its second pass and the size of their workspace. A unit
// is a tile, or the tiles of a cluster, one below the other: its blocks walk through k together and share b.
struct MatmulSm90Work {
    int units_down, tiles_across, units;      // of one product; of all
    int steps;                                // of a tile
    int cluster;                              // blocks
    int split;                                // parts of every tile, or
    int stream_clusters;                      // 0, or clusters that share all steps evenly:
    int share, longer;                        // `longer` of them have share + 1, the others share
    int slot_floats;                          // of one part: (rows, columns) and, where asked for, (rows,) sums of rows

    __host__ __device__ int stream_begin(int c) const { return share * c + (c < longer ? c : longer); }
    // The cluster that has step i of all.
    __host__ __device__ int stream_holder(int i) const {
        const int in_longer = (share + 1) * longer;
        return i < in_longer ? i / (share + 1) : longer + (i - in_longer) / share;
    }
    bool whole() const { return split == 1 && !stream_clusters; }
    int64_t slots() const {
        return cluster * (stream_clusters ? 2 * int64_t(stream_clusters) : whole() ? 0 : int64_t(units) * split);
    }
};

inline int64_t matmul_sm90_units(const MatmulConfig& c, int64_t batch, int64_t m, int64_t n) {
    const int64_t rows = c.rows * c.cluster;
    return batch * ((m + rows - 1) / rows) * ((n + c.columns - 1) / c.columns);
}

inline MatmulSm90Work matmul_sm90_work(const MatmulConfig& c, int64_t batch, int64_t m, int64_t n, int64_t k, bool row_sums) {
    MatmulSm90Work w{};
    w.cluster = c.cluster;
    w.units_down = int((m + c.rows * c.cluster - 1) / (c.rows * c.cluster));
    w.tiles_across = int((n + c.columns - 1) / c.columns);
    w.units = int(matmul_sm90_units(c, batch, m, n));
    w.steps = int((k + kMatmulSm90Step - 1) / kMatmulSm90Step);
    w.split = std::max(1, std::min(c.split, w.steps));
    w.slot_floats = c.rows * c.columns + (row_sums ? c.rows : 0);
    if (c.stream_k) {
        w.stream_clusters = std::min(std::max(1, c.max_blocks / c.cluster), w.units * w.steps);
        if (w.stream_clusters)
            w.share = w.units * w.steps / w.stream_clusters, w.longer = w.units * w.steps % w.stream_clusters;
    }
    return w;
}

// Partial sums of every part of a tile: float32, (slots, slot_floats).
inline int64_t matmul_sm90_workspace_bytes(const MatmulConfig& c, const MatmulProblem& p) {
    const MatmulSm90Work w = matmul_sm90_work(c, p.batch, p.m, p.n, p.k, p.row_sums);
    return w.slots() * w.slot_floats * 4;
}

// Whether the type is this family's and sizes are what TMA addresses by and the kernel counts in: signed 32-bit numbers.
inline bool matmul_sm90_can(const MatmulProblem& p, const MatmulConfig& c) {
    constexpr int64_t kMost = (1ll << 31) - 1024;
    if (!matmul_sm90_has(p.dtype)) return false;
    if (std::max({p.batch, p.m, p.n, p.k}) > kMost || p.batch > kMost / std::max<int64_t>(1, (p.m + 63) / 64)) return false;
    const int64_t units = matmul_sm90_units(c, p.batch, p.m, p.n), steps = p.k / kMatmulSm90Step + 1;
    return units <= kMost / steps && units <= kMost / std::max(1, c.split);
}
