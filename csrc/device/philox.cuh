// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011), and how fastnet
// numbers its draws: key = seed; counter = (index / 4, offset), low words first; word = index % 4. `index` is an
// element's place in C order, `offset` the place of the draw in its generator's stream.
#pragma once
#include "../gpu.h"

struct PhiloxState {  // in device memory, read by the kernel: a replayed graph sees new values
    uint64_t seed, offset;
};

// Four words: the draws of elements 4 * block .. 4 * block + 3.
__device__ __forceinline__ uint4 philox(uint64_t seed, uint64_t block, uint64_t offset) {
    uint32_t c0 = uint32_t(block), c1 = uint32_t(block >> 32), c2 = uint32_t(offset), c3 = uint32_t(offset >> 32);
    uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
        uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ k0, n2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
        c0 = n0, c1 = uint32_t(p1), c2 = n2, c3 = uint32_t(p0);
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return uint4{c0, c1, c2, c3};
}

__device__ __forceinline__ uint32_t word(const uint4& w, int i) {
    return i == 0 ? w.x : i == 1 ? w.y : i == 2 ? w.z : w.w;
}

// The draw of one element.
__device__ __forceinline__ uint32_t philox_word(uint64_t seed, uint64_t index, uint64_t offset) {
    return word(philox(seed, index >> 2, offset), int(index & 3));
}

constexpr float kTwoToMinus24 = 1.0f / (1 << 24);

// [0, 1) in steps of 2^-24.
__device__ __forceinline__ float uniform_from(uint32_t bits) { return float(bits >> 8) * kTwoToMinus24; }
