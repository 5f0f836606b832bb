// One function per PTX instruction the kernels use; kernels contain no asm of their own.
#pragma once
#include "../gpu.h"
#ifdef __CUDACC__
#include "ptx_asm.h"
#else
#include "../emulator/ptx.h"
#endif

namespace ptx {
// wgmma operand in shared memory: K-major, 128-byte rows in groups of 8 (1024 bytes), 128-byte swizzle.
__device__ __forceinline__ uint64_t descriptor_k_sw128(const void* tile) {
    return uint64_t((shared_offset(tile) & 0x3FFFF) >> 4) | uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}
// The same, M- or N-major: 64 elements along M or N by 8 along K per 1024 bytes; such blocks follow one
// another along K, and columns of blocks lie `column_bytes` apart.
__device__ __forceinline__ uint64_t descriptor_mn_sw128(const void* tile, uint32_t column_bytes) {
    return uint64_t((shared_offset(tile) & 0x3FFFF) >> 4) | uint64_t(column_bytes >> 4) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}
}  // namespace ptx
