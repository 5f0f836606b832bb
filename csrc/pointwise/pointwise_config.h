// How many elements a thread takes at a time and how many blocks there are: a pure function of the problem.
#pragma once
#include "../host/device.h"
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

constexpr int kPointwiseThreads = 256;

struct PointwiseConfig {
    int vector = 1;  // elements in one access: 1, or what fills 16 bytes (at least 4 where Philox draws)
    int blocks = 1;  // of 256 threads, which stride over the rest

    // The blocks that a launch has: never more than find an element each thread.
    unsigned grid(int64_t elements) const {
        if (blocks < 1) throw std::invalid_argument(to_string() + ": blocks must be at least 1");
        return unsigned(std::clamp<int64_t>((elements - 1) / kPointwiseThreads + 1, 1, blocks));
    }
    std::string to_string() const {
        return "pointwise(vector=" + std::to_string(vector) + ", blocks=" + std::to_string(blocks) + ")";
    }
};

// `vectors_fit`: every pointer is aligned to `vector` elements and rows are multiples of it.
inline PointwiseConfig
pointwise_config(int64_t elements, int itemsize, bool vectors_fit, const DeviceProperties& device) {
    int vector = vectors_fit ? std::max(4, 16 / itemsize) : 1;
    int64_t needed = (elements + int64_t(kPointwiseThreads) * vector - 1) / (int64_t(kPointwiseThreads) * vector);
    // 8 blocks of 256 fill an SM; a few times that hides the tail, and more would only add launch work.
    return {vector, int(std::clamp<int64_t>(needed, 1, int64_t(device.sm_count) * 32))};
}
