// What the emulated instructions of both architectures share.
#pragma once
#include "hooks.h"
#include "scheduler.h"

#include <bit>
#include <cstdint>
#include <cstring>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace ptx {

inline constexpr int kPoison = 0xFF;     // a byte that makes a NaN of any floating-point number

inline void check_aligned(const char* what, const void* p, unsigned n) {
    if (reinterpret_cast<uintptr_t>(p) % n) emu::fail("%s: %p is not a multiple of %u", what, p, n);
}

// The value of the 16-bit floating-point number with these bits.
inline float bf16_value(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }
inline float fp16_value(uint16_t bits) {
    __half_raw h;
    h.x = bits;
    return __half2float(h);
}
inline uint16_t fp16_bits(float x) { return __half_raw(__float2half_rn(x)).x; }
inline uint16_t half_of(uint32_t pair, int i) { return uint16_t(pair >> 16 * i); }

void reset_sm80();                       // forget what the blocks before left in flight
void reset_sm90();

}  // namespace ptx
