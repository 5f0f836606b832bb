// Which kernel serves which attention: a pure function of the problem and the device, printable, tested without a GPU.
#pragma once
#include "attention_sm80_config.h"
#include "attention_sm90_config.h"
#include <limits>
#include <stdexcept>
#include <string>

// The general family: ordinary multiply-adds, every dtype, stride and head dimension. A block of 128 threads has a tile of
// 32 queries by 32 keys at a time; a thread 2 x 4 of its scores. Results are summed in shared memory, so that the head
// dimension decides about nothing else.
constexpr int kAttentionThreads = 128, kAttentionTile = 32, kAttentionPitch = kAttentionTile + 1;

// general: ordinary multiply-adds. sm80: mma.sync fed by cp.async and ldmatrix, on Ampere and all that came after. sm90:
// wgmma fed by TMA, on Hopper.
enum class AttentionFamily { general, sm80, sm90 };
constexpr const char* kAttentionFamilies[] = {"general", "sm80", "sm90"};

struct AttentionConfig {
    int max_blocks = std::numeric_limits<int>::max();  // blocks take further tiles in turn
    AttentionFamily family = AttentionFamily::general;
    int stages = 2;  // of shared memory that copies fill ahead; not the general family's

    std::string to_string() const {
        const std::string name = std::string("attention(") + kAttentionFamilies[int(family)];
        return name + (family == AttentionFamily::general ? " 32x32" : ", stages=" + std::to_string(stages)) + ")";
    }
};

// Bytes of shared memory: two operand tiles, two tiles of scores, three numbers a row, and the widest results any of the
// kernels keeps: dk and dv together. Rows of results are up to three elements apart, which keeps them in banks of their own.
constexpr int64_t attention_shared_bytes(int64_t d, int64_t dv, bool backward, int accumulator_bytes) {
    const int64_t results = (dv + 3) + (backward ? d + 3 : 0);
    return (4 * kAttentionTile * kAttentionPitch + 3 * kAttentionTile + kAttentionTile * results) * accumulator_bytes;
}

// tma: attention_rows_by_tma of every operand, and nothing that the sm90 family does not serve.
// Tensor cores where there are any for the dtype, with as many stages as are worth it and fit.
inline AttentionConfig
attention_config(int64_t d, int64_t dv, DType dtype, bool backward, bool tma, const DeviceProperties& device) {
    AttentionConfig c;
    if (device.has_sm90a() && tma && attention_sm90_has(dtype, d, dv)) {
        c.family = AttentionFamily::sm90, c.stages = attention_sm90_stages(backward), c.max_blocks = device.sm_count;
        return c;
    }
    if (device.major < 8 || !attention_sm80_has(dtype, d, dv)) return c;
    const int item_bytes = attention_sm80_item_bytes(dtype);
    for (int stages = attention_sm80_tile(d, dv, item_bytes, backward).most_stages; stages >= 2; --stages)
        if (attention_sm80_shared_bytes(d, dv, item_bytes, backward, stages) <= device.shared_per_block) {
            c.family = AttentionFamily::sm80, c.stages = stages;
            break;
        }
    return c;
}
