// Which launch serves which table: a pure function of the problem, printable, tested without a GPU.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

constexpr int kEmbeddingThreads = 256;  // of a block

struct EmbeddingConfig {
    int team = 32;   // threads that have one row, or one chunk, together: a power of two
    int chunk = 32;  // sorted positions that one team adds up; runs that cross its ends are joined by a second pass

    std::string to_string() const {
        return "embedding(team=" + std::to_string(team) + ", chunk=" + std::to_string(chunk) + ")";
    }
};

inline void check(const EmbeddingConfig& c) {
    if (c.team < 1 || c.team > kEmbeddingThreads || (c.team & (c.team - 1)) || c.chunk < 1)
        throw std::invalid_argument(c.to_string() + ": team must be a power of two up to 256, chunk at least 1");
}

// `row_bytes`: of one row. A thread moves 16 bytes at a time where alignment allows it.
inline EmbeddingConfig embedding_config(int64_t row_bytes) {
    constexpr int kLeast = 4;  // fewer threads a row would make a warp touch too many rows at once
    int team = kLeast;
    while (team < kEmbeddingThreads && team * 16 < row_bytes) team *= 2;
    return {team, 32};
}
