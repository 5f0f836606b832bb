// Which kernel serves which attention: a pure function of the problem and the device, printable, tested without a GPU.
#pragma once
#include "../host/device.h"
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

// The general family: ordinary multiply-adds, every dtype, stride and head dimension. A block of 128 threads has a tile of
// 32 queries by 32 keys at a time; a thread 2 x 4 of its scores. Results are summed in shared memory, so that the head
// dimension decides about nothing else.
constexpr int kAttentionThreads = 128, kAttentionTile = 32, kAttentionPitch = kAttentionTile + 1;

struct AttentionConfig {
    int max_blocks = std::numeric_limits<int>::max();  // blocks take further tiles in turn

    std::string to_string() const { return "attention(general 32x32)"; }
};

// Elements of shared memory: two operand tiles, two tiles of scores, three numbers a row, and `columns` of results a row.
constexpr int64_t attention_shared_elements(int64_t columns) {
    return 4 * kAttentionTile * kAttentionPitch + 3 * kAttentionTile + kAttentionTile * columns;
}

// The widest results any of the kernels keeps: dk and dv together.
constexpr int64_t attention_shared_bytes(int64_t d, int64_t dv, bool backward, int accumulator_bytes) {
    return attention_shared_elements(backward ? d + dv : dv) * accumulator_bytes;
}

inline AttentionConfig attention_config(int64_t, int64_t, int64_t, int64_t, const DeviceProperties&) { return {}; }
