// How many channels a thread takes at a time and how many blocks there are: a pure function of the problem.
#pragma once
#include "../host/device.h"
#include <algorithm>
#include <cstdint>
#include <string>

constexpr int kPoolThreads = 256;

struct PoolConfig {
    int vector = 1;  // channels in one access: 1, or what fills 16 bytes
    int lanes = 1;   // threads of a block that take neighbouring channels, a power of two; the others further pixels
    int blocks = 1;  // of 256 threads, which stride over the rest

    // The blocks that a launch has: never more than find a pixel.
    unsigned grid(int64_t pixels) const {
        const int at_once = kPoolThreads / lanes;
        return unsigned(std::clamp<int64_t>((pixels + at_once - 1) / at_once, 1, blocks));
    }
    std::string to_string() const {
        return "pool(vector=" + std::to_string(vector) + ", lanes=" + std::to_string(lanes) +
               ", blocks=" + std::to_string(blocks) + ")";
    }
};

// `pixels`, `channels`: of what is written. `vectors_fit`: every pointer is aligned to 16 bytes and the channels are a
// multiple of what fills 16 bytes.
inline PoolConfig
pool_config(int64_t pixels, int64_t channels, int itemsize, bool vectors_fit, const DeviceProperties& device) {
    PoolConfig config;
    config.vector = vectors_fit ? 16 / itemsize : 1;
    const int64_t groups = (channels + config.vector - 1) / config.vector;
    while (config.lanes < groups && config.lanes < kPoolThreads) config.lanes *= 2;
    const int at_once = kPoolThreads / config.lanes;  // pixels
    // 8 blocks of 256 fill an SM; a few times that hides the tail, and more would only add launch work.
    config.blocks = int(std::clamp<int64_t>((pixels + at_once - 1) / at_once, 1, int64_t(device.sm_count) * 32));
    return config;
}
