// The general family: one kernel for every dtype, layout and shape, on ordinary multiply-adds.
#pragma once
#include "matmul_config.h"
#include <algorithm>

// A block computes rows x columns of one product; a thread computes thread_rows x thread_columns of them, and loads four
// elements of each operand a step of eight along k.
//
// Registers a thread, by ptxas 13.0 (float32, 16-bit, float64, int32, int64), and no local memory:
//            sm_80                     sm_90a                    sm_120
//   small    121, 128, 180, 105, 128   125, 132, 184, 109, 132   137, 137, 172, 117, 150
//   medium   154, 166, 198, 122, 166   162, 172, 202, 125, 172   167, 167, 208, 131, 224
//   large    157, 198                  167, 209                  182, 182
struct MatmulTileShape { int rows, columns, thread_rows, thread_columns; };

enum class MatmulTile { small, medium, large };

// In the order of MatmulTile.
constexpr MatmulTileShape kMatmulTiles[] = {
    {32, 32, 4, 4},
    {64, 64, 8, 4},
    {128, 128, 8, 8},                    // 64 sums: not for double nor int64, which would spill
};

constexpr int kMatmulStep = 8;           // k of one shared-memory stage
constexpr int kMatmulPad = 4;            // elements after each k of a stage: transposing stores then hit 32 banks
// At 16 the rounding of equal terms, which all errs to one side, stays below 2^-21 sum|a b|; at 32 not always. A fold
// costs 5 instructions beside 16 multiply-adds.
constexpr int kMatmulFold = 16;

constexpr bool matmul_general_has_large(DType dtype) {
    return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}
constexpr int matmul_general_accumulator_bytes(DType dtype) {
    return dtype == DType::float64 || dtype == DType::int64 ? 8 : 4;
}

// Whether the totals of a tile lie in shared memory: two sets of 64 words and the fragments are more than 255 registers.
constexpr bool matmul_totals_are_shared(MatmulTileShape s, int accumulator_bytes) {
    return s.thread_rows * s.thread_columns * accumulator_bytes >= 64 * 4;
}

// The two stages of both operands, and the tile of results, which takes their place where it holds no totals.
constexpr int matmul_general_shared_bytes(MatmulTileShape s, int accumulator_bytes) {
    const int stages = 2 * kMatmulStep * (s.rows + s.columns + 2 * kMatmulPad), results = s.rows * s.columns;
    return (matmul_totals_are_shared(s, accumulator_bytes) ? stages + results : stages > results ? stages : results) * accumulator_bytes;
}

// The tile a config names; null where there is none.
inline const MatmulTileShape* matmul_general_tile(const MatmulConfig& c) {
    for (const MatmulTileShape& s : kMatmulTiles)
        if (s.rows == c.rows && s.columns == c.columns) return &s;
    return nullptr;
}

inline MatmulConfig matmul_general_config(MatmulTile tile) {
    const MatmulTileShape& s = kMatmulTiles[int(tile)];
    MatmulConfig c;
    c.rows = s.rows, c.columns = s.columns, c.k_step = kMatmulStep, c.stages = 2, c.fold = kMatmulFold;
    return c;
}
