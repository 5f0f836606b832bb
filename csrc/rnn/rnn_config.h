// Which launch serves which recurrent step: a pure function of the problem, printable, tested without a GPU.
#pragma once
#include "../host/device.h"
#include <algorithm>
#include <cstdint>
#include <string>

constexpr int kRnnThreads = 256;

struct RnnConfig {
    int blocks = 1;  // they take further elements in turn

    std::string to_string() const { return "rnn(step, blocks=" + std::to_string(blocks) + ")"; }
};

// A thread an element, up to eight blocks an SM.
inline RnnConfig rnn_config(int64_t batch, int64_t hidden, const DeviceProperties& device) {
    const int64_t wanted = (batch * hidden + kRnnThreads - 1) / kRnnThreads;
    return {int(std::clamp<int64_t>(wanted, 1, int64_t(device.sm_count) * 8))};
}
