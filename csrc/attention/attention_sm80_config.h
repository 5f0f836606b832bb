// The sm80 family of attention: mma.sync fed by cp.async and ldmatrix, for float16, bfloat16 and float32 (as 3xTF32, or
// TF32 on request).
#pragma once
#include "../host/device.h"
#include "../host/dtype.h"
#include "../host/mma_stage.h"
#include <algorithm>
#include <cstdint>

// Head dimensions are padded with zeros to one of three widths; of float32, two.
constexpr bool attention_sm80_has(DType dtype, int64_t d, int64_t dv) {
    const int64_t most = dtype == DType::float16 || dtype == DType::bfloat16 ? 256 : dtype == DType::float32 ? 128 : -1;
    return d <= most && dv <= most;
}
constexpr int attention_sm80_item_bytes(DType dtype) { return dtype == DType::float32 ? 4 : 2; }
constexpr int attention_sm80_width(int64_t d, int64_t dv) {
    const int64_t widest = std::max(d, dv);
    return widest <= 64 ? 64 : widest <= 128 ? 128 : 256;
}

// Forward: a block has `warps` of 16 * blocks_down queries and takes `columns` keys at a time, a stage for the keys and
// the next one for their values. Sums of results, scores and, up to width 128, queries are in registers. 32 queries a
// warp halve what is read from shared memory for a product; from width 128 on they do not fit into 255 registers.
//
// Registers a thread by ptxas 13.0 (bfloat16; float32), and no local memory:
//                              sm_80    sm_90a    sm_120
//   forward   64             242 170   237 170   242 156
//            128             216 243   216 240   210 168
//            256             224       226       248
//   dq        64             192 171   195 174   168 189
//            128             166 242   168 251   163 202
//            256             226       228       228
//   dk, dv    64             242 236   242 239   193 224
//            128             245       243       231
//            128, each           240       241       194
//            256, each       219       219       214
struct AttentionSm80Tile {
    int width, warps, blocks_down, columns, most_stages;
    constexpr int rows() const { return warps * blocks_down * 16; }
};
constexpr AttentionSm80Tile kAttentionSm80Forward[] = {
    {64, 4, 2, 64, 4},
    {128, 8, 1, 64, 4},
    {256, 4, 1, 32, 3},  // with three stages two blocks share an SM of an A100
};

// Backward: a block owns 64 queries (for dq) or 64 keys (for dk and dv), 16 a warp, and takes `columns` of the others at a
// time, a stage for both of their operands. At width 256 sums of dk and dv do not fit into registers beside each other:
// each has a pass of its own.
constexpr AttentionSm80Tile kAttentionSm80Backward[] = {
    {64, 4, 1, 64, 2},
    {128, 4, 1, 32, 2},
    {256, 4, 1, 16, 2},
};

// float32: with 32 columns of width 128, or dk and dv beside each other, a few registers would be missing.
constexpr AttentionSm80Tile kAttentionSm80ForwardFp32[] = {{64, 4, 1, 32, 4}, {128, 4, 1, 16, 4}};
constexpr AttentionSm80Tile kAttentionSm80BackwardFp32[] = {{64, 4, 1, 32, 2}, {128, 4, 1, 16, 2}};

constexpr AttentionSm80Tile attention_sm80_tile(int64_t d, int64_t dv, int item_bytes, bool backward) {
    const int width = attention_sm80_width(d, dv), index = width == 64 ? 0 : width == 128 ? 1 : 2;
    if (item_bytes == 4)
        return backward ? kAttentionSm80BackwardFp32[std::min(index, 1)]
                        : kAttentionSm80ForwardFp32[std::min(index, 1)];
    return backward ? kAttentionSm80Backward[index] : kAttentionSm80Forward[index];
}

// Bytes of a stage: one operand, or two and, in backward, two floats a query.
constexpr int attention_sm80_stage_bytes(const AttentionSm80Tile& t, int item_bytes, bool backward) {
    return t.columns * (t.width * item_bytes * (backward ? 2 : 1) + (backward ? 8 : 0));
}
// The sequence that a tile is of, before the tiles.
constexpr int kAttentionSm80Header = 128;

constexpr int attention_sm80_shared_bytes(int64_t d, int64_t dv, int item_bytes, bool backward, int stages) {
    const AttentionSm80Tile t = attention_sm80_tile(d, dv, item_bytes, backward);
    return kAttentionSm80Header + t.rows() * t.width * item_bytes * (backward ? 2 : 1) +
           stages * attention_sm80_stage_bytes(t, item_bytes, backward);
}
