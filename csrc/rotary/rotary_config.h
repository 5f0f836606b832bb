// Which launch turns which heads: a pure function of the problem, printable, tested without a GPU.
#pragma once
#include "../host/device.h"
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

constexpr int kRotaryThreads = 256;  // of a block

struct RotaryConfig {
    int team = 8;   // threads that have the rows of one place together: a power of two
    int heads = 1;  // rows of a place, one a head, that a team turns by the angles it read once
    int rows = 32;  // teams of a block side by side along the sequence, a power of two; the others have other heads

    int teams() const { return kRotaryThreads / team; }
    std::string to_string() const {
        return "rotary(team=" + std::to_string(team) + ", heads=" + std::to_string(heads) +
               ", rows=" + std::to_string(rows) + ")";
    }
};

inline void check(const RotaryConfig& c) {
    const auto power = [](int n) { return n >= 1 && n <= kRotaryThreads && (n & (n - 1)) == 0; };
    if (!power(c.team) || !power(c.rows) || c.rows > c.teams() || c.heads < 1)
        throw std::invalid_argument(c.to_string() +
                                    ": team and rows must be powers of two, 256 together at most, "
                                    "heads at least 1");
}

// half: pairs that a row has.
inline RotaryConfig
rotary_config(int64_t batch, int64_t heads, int64_t length, int64_t half, const DeviceProperties& device) {
    constexpr int kVector = 4;  // pairs a thread has at a time
    RotaryConfig c{1, 1, 1};
    while (c.team < kRotaryThreads && c.team * kVector < half) c.team *= 2;
    while (c.rows < c.teams() && c.rows < length) c.rows *= 2;
    // Angles, of 8 bytes a pair, weigh as much as the pairs of one head of 16 bits that are read and written: four heads a
    // team bring them to a fifth of all. But every SM is to have 8 blocks first.
    const int64_t teams = int64_t(device.sm_count) * 8 * c.teams();
    while (c.heads < 4 && c.heads * 2 <= heads && batch * length * (heads / (c.heads * 2)) >= teams) c.heads *= 2;
    return c;
}
