// The sm90 family of attention: wgmma fed by TMA, for float16 and bfloat16 on Hopper.
#pragma once
#include "../host/device.h"
#include "../host/dtype.h"
#include <algorithm>
#include <cstdint>

// A block has 64 query rows a consumer warpgroup and takes `columns` keys at a time; head dimensions are padded with zeros
// to one of three widths. A tile of keys, or of values, is a stage. Up to width 128 results have shared memory of their
// own, so that the next tile's queries come while they leave; at 256 they take their queries' place.
//
// Registers of consumers: 64 x columns scores, as many probabilities in 16 bits and 64 x width sums are columns * 3 / 4 +
// width / 2 a thread, beside what the softmax needs: 128 of 160 with three warpgroups, 160 of 240 and 188 of 240 with two.
struct AttentionSm90Tile {
    int width, consumers, columns;
    bool own_staging;
    constexpr int rows() const { return 64 * consumers; }
    constexpr int own_bytes() const { return rows() * width * 2; }
    constexpr int stage_bytes() const { return columns * width * 2; }
};
constexpr AttentionSm90Tile kAttentionSm90Forward[] = {
    {64, 3, 128, true},
    {128, 2, 128, true},
    {256, 2, 80, false},
};
// With masks, biases, a cap or dropout there is more to keep, and Philox to compute, and with packed sequences where they
// are: 160 registers do not do.
constexpr AttentionSm90Tile kAttentionSm90ForwardFeatured[] = {
    {64, 2, 128, true},
    {128, 2, 128, true},
    {256, 2, 64, false},
};
// Backward: a warpgroup owns 64 queries (for dq) or 64 keys (for dk and dv) with both their operands, where results are
// staged at the end, and takes `columns` of the others at a time, a stage an operand. Scores and their gradients are
// columns a thread in 32 bits and half as many (for dq) or as many (for dk and dv) in 16, sums width / 2 or width: with 64
// columns dk and dv of width 128 leave too few registers, and ptxas lets no two products overlap. Beyond that width they
// do not fit into registers beside each other, and each has a pass of its own.
constexpr AttentionSm90Tile kAttentionSm90OfQueries[] = {{64, 3, 64, false}, {128, 2, 64, false}, {256, 2, 32, false}};
constexpr AttentionSm90Tile kAttentionSm90OfKeys[] = {{64, 2, 64, false}, {128, 2, 48, false}, {256, 2, 32, false}};

// What features ask for comes on top here, too.
constexpr AttentionSm90Tile kAttentionSm90OfQueriesFeatured[] = {
    {64, 2, 64, false}, {128, 2, 64, false}, {256, 2, 32, false}};
constexpr AttentionSm90Tile kAttentionSm90OfKeysFeatured[] = {
    {64, 2, 64, false}, {128, 2, 32, false}, {256, 2, 32, false}};

constexpr int kAttentionSm90Statistics = 256;  // bytes of a stage's lse or delta: up to 64 columns, where TMA may write

// With fewer stages a producer would wait for what its consumers hold.
constexpr int attention_sm90_min_stages(bool backward) { return backward ? 4 : 3; }
constexpr int attention_sm90_stages(bool backward) { return backward ? 6 : 4; }

constexpr bool attention_sm90_has(DType dtype, int64_t d, int64_t dv) {
    return (dtype == DType::float16 || dtype == DType::bfloat16) && std::max(d, dv) <= 256;
}

constexpr int attention_sm90_index(int64_t d, int64_t dv) {
    const int64_t widest = std::max(d, dv);
    return widest <= 64 ? 0 : widest <= 128 ? 1 : 2;
}

constexpr int kAttentionSm90Reach = 32;  // bytes of what a warp keeps of its tile's sequence

// Queries, results where they have a place of their own, stages; two mbarriers a stage and two a consumer; four warps'
// reaches.
constexpr int attention_sm90_forward_bytes(const AttentionSm90Tile& t, int stages) {
    return t.own_bytes() * (t.own_staging ? 2 : 1) + stages * t.stage_bytes() + (stages + t.consumers) * 16 +
           t.consumers * 4 * kAttentionSm90Reach;
}
// Both owned operands, stages, each with a float a column; mbarriers.
constexpr int attention_sm90_backward_bytes(const AttentionSm90Tile& t, int stages) {
    return t.own_bytes() * 2 + stages * (t.stage_bytes() + kAttentionSm90Statistics) + (stages + t.consumers) * 16;
}
constexpr int attention_sm90_shared_bytes(int64_t d, int64_t dv, bool backward, int stages) {
    const int index = attention_sm90_index(d, dv);
    return backward ? std::max(attention_sm90_backward_bytes(kAttentionSm90OfQueries[index], stages),
                               attention_sm90_backward_bytes(kAttentionSm90OfKeys[index], stages))
                    : std::max(attention_sm90_forward_bytes(kAttentionSm90Forward[index], stages),
                               attention_sm90_forward_bytes(kAttentionSm90ForwardFeatured[index], stages));
}

// How many heads' tiles are dealt out together, the longest of all of them first, where causality makes tiles differ: as
// many as have keys and values that take half of the L2 (of which others hold the rest), and one where all are alike.
inline int64_t attention_sm90_heads_together(int64_t keys, int64_t d, int64_t dv, int64_t group, bool alike,
                                             const DeviceProperties& device) {
    if (alike) return 1;
    const int64_t bytes = std::max<int64_t>(1, keys * (d + dv) * 2);
    return std::max<int64_t>(1, device.l2_bytes / 2 / bytes) * group;
}
