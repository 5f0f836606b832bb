// Which launch serves which normalisation: a pure function of the problem, printable, tested without a GPU.
#pragma once
#include "../host/device.h"
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

constexpr int kNormThreads = 512;         // of a block at most
constexpr int kNormChannelThreads = 256;  // of a block that sums over samples and positions

struct NormConfig {
    // A team of threads has one sample's group: a power of two; more than a warp is the whole block.
    int team = 32;
    int block = 128;
    int blocks = 1;  // of the backward pass that sums the parameters' gradients as it goes; 0: a pass
                     // of their own does it
    // Sums over samples and positions: channels a block takes side by side, and parts summed apart, then in order.
    int columns = 32;
    int splits = 1;

    std::string to_string() const {
        return "norm(team=" + std::to_string(team) + ", block=" + std::to_string(block) +
               ", blocks=" + std::to_string(blocks) + ", columns=" + std::to_string(columns) +
               ", splits=" + std::to_string(splits) + ")";
    }
};

inline void check(const NormConfig& c) {
    const bool power = c.team >= 1 && (c.team & (c.team - 1)) == 0;
    if (!power || c.block < 32 || c.block > kNormThreads || c.block % 32 || c.block % c.team ||
        (c.team > 32 && c.team != c.block))
        throw std::invalid_argument(c.to_string() +
                                    ": team must be a power of two that divides block, block a multiple of 32 up "
                                    "to 512, and a team of more than a warp the whole block");
    if (c.columns < 1 || c.columns > kNormChannelThreads || (c.columns & (c.columns - 1)) || c.splits < 1 ||
        c.splits > 65535 || c.blocks < 0)
        throw std::invalid_argument(
            c.to_string() + ": columns must be a power of two up to 256, splits 1 to 65535, blocks not negative");
}

// Bytes of shared memory in which the teams of a block keep their sums of the parameters' gradients.
inline int64_t norm_sums_bytes(const NormConfig& c, int64_t channels, int accumulator_bytes) {
    return int64_t(c.block / c.team) * 2 * channels * accumulator_bytes;
}

// Elements of workspace of a backward pass.
inline int64_t norm_workspace(const NormConfig& c, int64_t channels) {
    return 2 * channels * (c.blocks ? c.blocks : c.splits + 1);
}

// x: (n, c, s) in `groups` groups of channels; groups 0: batch normalisation.
inline NormConfig norm_config(int64_t n, int64_t c, int64_t s, int64_t groups, bool channels_last,
                              int accumulator_bytes, const DeviceProperties& device) {
    NormConfig config;
    const int64_t length = groups ? c / groups * s : 0, rows = n * groups;
    if (length <= 2048) {  // within a warp: no barrier. About eight elements a lane
        config.team = 1;
        while (config.team < 32 && config.team * 8 < length) config.team *= 2;
    } else {
        config.team = 128;
        while (config.team < kNormThreads && config.team * 16 < length) config.team *= 2;
        config.block = config.team;
    }
    // Each channel's sums stay with the threads that own its columns only where a team's columns are channels.
    const int64_t at_once = config.block / config.team;
    const int64_t wanted = std::min<int64_t>((rows + at_once - 1) / at_once, int64_t(device.sm_count) * 2);
    const bool fused =
        groups == 1 && s == 1 && norm_sums_bytes(config, c, accumulator_bytes) <= device.shared_per_block / 2;
    config.blocks = fused ? int(std::max<int64_t>(wanted, 1)) : 0;
    // Neighbouring threads take neighbours in memory: 32 channels, or 256 positions of one channel.
    config.columns = channels_last ? 32 : 1;
    const int64_t column_blocks = std::max<int64_t>(1, (c + config.columns - 1) / config.columns);
    const int64_t worth =
        std::max<int64_t>(1, n * s * config.columns / (kNormChannelThreads * 8));  // eight elements a thread
    config.splits = int(std::clamp<int64_t>(
        std::min((4 * int64_t(device.sm_count) + column_blocks - 1) / column_blocks, worth), 1, 1024));
    return config;
}
