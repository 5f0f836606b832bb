// The general family: one kernel for every dtype, layout and shape, on ordinary multiply-adds.
#pragma once
#include "../host/product_tile.h"
#include "matmul_config.h"
#include <algorithm>

// A block computes rows x columns of one product; a thread computes thread_rows x thread_columns of them, and loads four
// elements of each operand a step of eight along k.
//
// Registers a thread, by ptxas 13.0 (float32, 16-bit, float64, int32, int64), and no local memory:
//            sm_80                     sm_90a                    sm_120
//   small    127, 167, 190, 109, 128   135, 181, 192, 111, 138   139, 139, 178, 123, 154
//   medium   159, 202, 206, 126, 164   167, 213, 208, 128, 184   167, 168, 226, 131, 220
//   large    163, 168                  168, 175                  186, 186
struct MatmulTileShape { int rows, columns, thread_rows, thread_columns; };

enum class MatmulTile { small, medium, large };

// In the order of MatmulTile.
constexpr MatmulTileShape kMatmulTiles[] = {
    {32, 32, 4, 4},
    {64, 64, 8, 4},
    {128, 128, 8, 8},                    // 64 sums: not for double nor int64, which would spill
};

constexpr int kMatmulStep = kProductStep;
// At 16 the rounding of equal terms, which all errs to one side, stays below 2^-21 sum|a b|; at 32 not always. A fold
// costs 5 instructions beside 16 multiply-adds.
constexpr int kMatmulFold = 16;

constexpr bool matmul_general_has_large(DType dtype) {
    return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}
constexpr int matmul_general_accumulator_bytes(DType dtype) {
    return dtype == DType::float64 || dtype == DType::int64 ? 8 : 4;
}

constexpr int matmul_general_shared_bytes(MatmulTileShape s, int accumulator_bytes) {
    return product_shared_bytes(s.rows, s.columns, s.thread_rows, s.thread_columns, accumulator_bytes);
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
