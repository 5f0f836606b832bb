// How the elements of many arrays are dealt to blocks: a pure function, printable, tested without a GPU.
#pragma once
#include "../host/device.h"
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

struct OptimConfig {
    int chunk = 4096;  // elements of one array that a block updates: a multiple of 16

    std::string to_string() const { return "optim(chunk=" + std::to_string(chunk) + ")"; }
};

inline void check(const OptimConfig& c) {
    if (c.chunk < 16 || c.chunk % 16 || c.chunk > 1 << 20)
        throw std::invalid_argument(c.to_string() + ": chunk must be a multiple of 16 from 16 to 2^20");
}

// elements: of all the arrays together. Few elements are spread over the device, many come in long chunks.
inline OptimConfig optim_config(int64_t elements, const DeviceProperties& device) {
    int chunk = 1024;
    while (chunk < 16384 && elements / chunk > int64_t(device.sm_count) * 16) chunk *= 2;
    return {chunk};
}
