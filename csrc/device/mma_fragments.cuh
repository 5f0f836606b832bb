// Fragments of mma.sync m16n8k16 from tiles of 16-bit elements in shared memory, whose rows of kRowBytes hold chunks of 16
// bytes permuted as device/mma_product.cuh says: eight rows of a fragment then meet in no bank. `lane` is the thread's;
// where it comes from ptx::opaque in a loop, addresses are computed there and not held in registers from before it.
#pragma once
#include "mma_product.cuh"

namespace mma_product {

// a (16, 16): rows row0 .. of a tile [m][k], the slice-th 16 of k.
template <class T, int kRowBytes>
__device__ __forceinline__ void fragment_a(uint32_t (&a)[4], const unsigned char* tile, int row0, int slice, int lane) {
    ptx::ldmatrix_x4(a, tile + chunk_offset<T, kRowBytes, false>(row0 + lane % 16, slice * 2 + lane / 16));
}

__device__ __forceinline__ void two_blocks(uint32_t (&b)[2][2], const uint32_t (&r)[4]) {
    b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

// b (16, 16) as two blocks of 8 columns: columns column0 .. are rows of a tile [n][k], the slice-th 16 of k.
template <class T, int kRowBytes>
__device__ __forceinline__ void
fragment_b_of_rows(uint32_t (&b)[2][2], const unsigned char* tile, int column0, int slice, int lane) {
    uint32_t r[4];
    ptx::ldmatrix_x4(
        r, tile + chunk_offset<T, kRowBytes, false>(column0 + lane % 8 + lane / 16 * 8, slice * 2 + lane / 8 % 2));
    two_blocks(b, r);
}

// b (16, 16) as two blocks of 8 columns: columns column0 .. of a tile [k][n], the slice-th 16 of k are its rows.
template <class T, int kRowBytes>
__device__ __forceinline__ void
fragment_b_of_columns(uint32_t (&b)[2][2], const unsigned char* tile, int column0, int slice, int lane) {
    uint32_t r[4];
    ptx::ldmatrix_x4_trans(r,
                           tile + chunk_offset<T, kRowBytes, false>(slice * 16 + lane % 16, column0 / 8 + lane / 16));
    two_blocks(b, r);
}

}  // namespace mma_product
