// Which launch serves which softmax: a pure function of the problem, printable, tested without a GPU.
#pragma once
#include "../host/device.h"
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

constexpr int kSoftmaxThreads = 512;  // of a block at most: at 1024 the 64 registers a thread would have spill

struct SoftmaxConfig {
    bool columns = false;  // lanes of a warp take neighbouring columns, not neighbours along the axis
    int team = 32;         // threads that share a row: a power of two
    int block = 128;       // threads of a block; block / team rows at a time

    std::string to_string() const {
        return "softmax(columns=" + std::string(columns ? "True" : "False") + ", team=" + std::to_string(team) +
               ", block=" + std::to_string(block) + ")";
    }
};

inline void check(const SoftmaxConfig& c) {
    const bool power = c.team >= 1 && (c.team & (c.team - 1)) == 0;
    if (!power || c.block < 32 || c.block > kSoftmaxThreads || c.block % 32 || c.block % c.team ||
        (!c.columns && c.team > 32 && c.team != c.block))
        throw std::invalid_argument(c.to_string() +
                                    ": team must be a power of two that divides block, block a multiple of "
                                    "32 up to 512, and a team of more than a warp the whole block");
}

// rows = outer * inner numbers of `length` each; inner is the number of neighbours in memory across the axis.
inline SoftmaxConfig softmax_config(int64_t outer, int64_t length, int64_t inner, const DeviceProperties& device) {
    SoftmaxConfig config;
    if (inner > 1) {
        config.columns = true;
        config.team = 1;
        // More threads along the axis only where the columns alone cannot fill the device (four blocks of 128 an SM).
        while (config.team < 16 && config.team * 4 <= length &&
               outer * inner * config.team < int64_t(device.sm_count) * 512)
            config.team *= 2;
        config.block = std::max(128, 32 * config.team);  // 32 neighbouring columns a warp: whole sectors
        return config;
    }
    if (length <= 1024) {  // within a warp: no barrier. About four elements a lane
        config.team = 1;
        while (config.team < 32 && config.team * 4 < length) config.team *= 2;
        return config;
    }
    config.team = 128;
    while (config.team < kSoftmaxThreads && config.team * 32 < length) config.team *= 2;
    config.block = config.team;
    return config;
}
