// The sm80 family of attention: mma.sync fed by cp.async and ldmatrix, for float16 and bfloat16.
#pragma once
#include "../host/device.h"
#include "../host/dtype.h"
#include "../host/mma_stage.h"
#include <algorithm>
#include <cstdint>

// Head dimensions are padded with zeros to one of three widths.
constexpr int kAttentionSm80Widths[] = {64, 128, 256};

constexpr bool attention_sm80_has(DType dtype, int64_t d, int64_t dv) {
    return (dtype == DType::float16 || dtype == DType::bfloat16) && d <= 256 && dv <= 256;
}
constexpr int attention_sm80_width(int64_t d, int64_t dv) {
    const int64_t widest = std::max(d, dv);
    return widest <= 64 ? 64 : widest <= 128 ? 128 : 256;
}

// Forward: a block has `warps` of 16 * blocks_down queries and takes `columns` keys at a time, a stage for the keys and
// the next one for their values. Sums of results, scores and, up to width 128, queries are in registers. 32 queries a
// warp halve what is read from shared memory for a product; from width 128 on they do not fit into 255 registers.
//
// Registers a thread by ptxas 13.0 (bfloat16), and no local memory:
//                        sm_80  sm_90a  sm_120
//   forward   64           248     243     246
//            128           226     228     230
//            256           254     255     252
//   dq        64           214     209     184
//            128           198     200     179
//            256           242     242     232
//   dk, dv    64           249     243     211
//            128           255     254     245
//            256, each     230     232     224
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

constexpr AttentionSm80Tile attention_sm80_tile(int64_t d, int64_t dv, bool backward) {
    const int width = attention_sm80_width(d, dv), index = width == 64 ? 0 : width == 128 ? 1 : 2;
    return backward ? kAttentionSm80Backward[index] : kAttentionSm80Forward[index];
}
constexpr int attention_sm80_most_stages(int64_t d, int64_t dv, bool backward) {
    return attention_sm80_tile(d, dv, backward).most_stages;
}

// Bytes of a stage: one operand in 16 bits, or two and, in backward, two floats a query.
constexpr int attention_sm80_stage_bytes(const AttentionSm80Tile& t, bool backward) {
    return t.columns * (t.width * 2 * (backward ? 2 : 1) + (backward ? 8 : 0));
}
// The sequence that a tile is of, before the tiles.
constexpr int kAttentionSm80Header = 128;

constexpr int attention_sm80_shared_bytes(int64_t d, int64_t dv, bool backward, int stages) {
    const AttentionSm80Tile t = attention_sm80_tile(d, dv, backward);
    return kAttentionSm80Header + t.rows() * t.width * 2 * (backward ? 2 : 1) + stages * attention_sm80_stage_bytes(t, backward);
}
