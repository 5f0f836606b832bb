// The sm80 family: mma.sync fed by cp.async and ldmatrix, for float16, bfloat16 and float32 (as 3xTF32, or TF32 on request).
#pragma once
#include "../host/mma_stage.h"
#include "matmul_config.h"
#include <algorithm>

// A block's tile and the warps that share it; every warp has 16 rows and 16 columns or multiples of them.
//
// A warp of 64x64 reads 8 matrices of four for 32 products (k = 16), so that the tensor cores of an A100 and not its shared
// memory bound the loop. Where four such warps copy a tile of 128x128 they spill 8 to 60 bytes: eight of 64x32 do not.
// float32 has two sets of sums: 32x32 a warp; 64x32 in tiles of 128x128 spilled 60 to 110 bytes.
//
// Registers a thread by ptxas 13.0, the least and the most of the four transposes, and no local memory:
//            16-bit: sm_80     sm_90a    sm_120     float32: sm_80     sm_90a    sm_120
//   128x256        243-248   242-248   249-249
//   128x128        185-191   188-196   197-202
//   128x64                                                163-191   163-191   174-184
//   64x64          127-128   126-128   147-154            159-175   161-173   163-168
//   16x128          96-104    96-101   136-138            134-136   135-142   132-141
//   128x16          98-104    96-102   128-135            128-134   130-134   122-132
struct MatmulSm80Tile {
    int rows, columns, warps_down, warps_across;
    bool for_16_bit, for_float32;
    int registers;                       // of a thread, the most of all
    double efficiency;                   // estimate: a step of a small tile has all of a step's overhead for fewer products
};
constexpr MatmulSm80Tile kMatmulSm80Tiles[] = {
    {128, 256, 2, 4, true, false, 249, 0.9},
    {128, 128, 2, 4, true, false, 202, 0.85},
    {128, 64, 4, 2, false, true, 191, 0.9},
    {64, 64, 2, 2, true, true, 175, 0.75},
    {16, 128, 1, 4, true, true, 142, 0.6}, // few rows
    {128, 16, 4, 1, true, true, 135, 0.6}, // few columns
};

constexpr int kMatmulSm80Step = kMmaStep, kMatmulSm80MaxStages = kMmaMaxStages;

constexpr bool matmul_sm80_has(DType dtype) {
    return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

inline const MatmulSm80Tile* matmul_sm80_tile(int rows, int columns) {
    for (const MatmulSm80Tile& t : kMatmulSm80Tiles)
        if (t.rows == rows && t.columns == columns) return &t;
    return nullptr;
}

inline int matmul_sm80_shared_bytes(const MatmulConfig& c, DType dtype) {
    return mma_shared_bytes(c.rows, c.columns, c.stages, matmul_item_bytes(dtype));
}

// The config of a tile: four stages, more where tiles are small and what is on its way must hide the latency of memory.
inline MatmulConfig matmul_sm80_config(const MatmulSm80Tile& t, DType dtype) {
    MatmulConfig c;
    c.family = MatmulFamily::sm80, c.rows = t.rows, c.columns = t.columns, c.k_step = kMatmulSm80Step, c.fold = kMatmulSm80Step;
    c.stages = t.rows > 16 && t.columns > 16 ? 4 : dtype == DType::float32 ? 5 : 6;
    return c;
}

// How the steps of all tiles are divided, the same for the kernel, its second pass and the size of their workspace.
struct MatmulSm80Work {
    int64_t tiles_down, tiles_across, tiles;               // of one product; of all
    int64_t steps;                       // of a tile
    int split;                           // parts of every tile, or
    int64_t stream_blocks;               // 0, or blocks that share all steps evenly
    int64_t slot_floats;                 // partial sums of one part: (rows, columns) and, where they are asked for, (rows,) sums of rows

    bool whole() const { return split == 1 && !stream_blocks; }
    int64_t jobs() const { return tiles * split; }         // blocks and slots are counted in 32 bits
    int64_t slots() const { return stream_blocks ? 2 * stream_blocks : whole() ? 0 : tiles * split; }
};

inline MatmulSm80Work matmul_sm80_work(const MatmulConfig& c, int64_t batch, int64_t m, int64_t n, int64_t k, bool row_sums) {
    MatmulSm80Work w{};
    w.tiles_down = (m + c.rows - 1) / c.rows, w.tiles_across = (n + c.columns - 1) / c.columns;
    w.tiles = batch * w.tiles_down * w.tiles_across;
    w.steps = (k + kMatmulSm80Step - 1) / kMatmulSm80Step;
    w.split = int(std::max<int64_t>(1, std::min<int64_t>(c.split, w.steps)));
    if (c.stream_k) w.stream_blocks = std::min<int64_t>(c.max_blocks, w.tiles * w.steps);
    w.slot_floats = int64_t(c.rows) * c.columns + (row_sums ? c.rows : 0);
    return w;
}

inline int64_t matmul_sm80_workspace_bytes(const MatmulConfig& c, const MatmulProblem& p) {
    const MatmulSm80Work w = matmul_sm80_work(c, p.batch, p.m, p.n, p.k, p.row_sums);
    return w.slots() * w.slot_floats * 4;
}

// Whether tiles and steps can be counted in 32 bits.
inline bool matmul_sm80_serves(const MatmulConfig& c, const MatmulProblem& p) {
    constexpr int64_t kMost = std::numeric_limits<int>::max();
    const MatmulSm80Work w = matmul_sm80_work(c, p.batch, p.m, p.n, p.k, p.row_sums);
    return w.steps <= kMost && w.tiles <= kMost && w.jobs() <= kMost &&
           (!w.stream_blocks || w.tiles * w.steps / w.stream_blocks < kMost);
}
