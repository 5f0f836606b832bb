// One function per sm_80 instruction that CUDA C++ has no word for (and stmatrix of sm_90, the inverse of ldmatrix).
// Kernels contain no asm of their own. csrc/emulator/ptx_sm80.h declares the same functions for the emulator.
//
// In this file g = lane / 4, t = lane % 4; a 16-bit fragment register holds two elements, the lower in its low half.
#pragma once
#include "../gpu.h"

#ifndef __CUDACC__
#include "../emulator/ptx_sm80.h"
#else

#define FASTNET_PTX __device__ __forceinline__

namespace ptx {

// The address of `p` in the block's shared window, as instructions take it.
FASTNET_PTX uint32_t shared_offset(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// x, of which the compiler then knows nothing: what follows from it is computed where it stands, not beforehand in
// registers that are held through a loop.
FASTNET_PTX int opaque(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

// ---- cp.async: the first `valid` bytes from global memory, zeros for the rest --------------------------------
// Both addresses are multiples of the size. Written data is visible to the issuing thread after its wait, to others
// after a barrier too. _4, _8 and _16 cache in L1 and L2 (.ca); _16_cg only in L2: for data read once a block.

FASTNET_PTX void cp_async_4(void* shared, const void* global, int valid = 4) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" :: "r"(shared_offset(shared)), "l"(global), "r"(valid) : "memory");
}
FASTNET_PTX void cp_async_8(void* shared, const void* global, int valid = 8) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" :: "r"(shared_offset(shared)), "l"(global), "r"(valid) : "memory");
}
FASTNET_PTX void cp_async_16(void* shared, const void* global, int valid = 16) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" :: "r"(shared_offset(shared)), "l"(global), "r"(valid) : "memory");
}
FASTNET_PTX void cp_async_16_cg(void* shared, const void* global, int valid = 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(shared_offset(shared)), "l"(global), "r"(valid) : "memory");
}
FASTNET_PTX void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// All but the newest kPending groups of this thread have landed.
template <int kPending>
FASTNET_PTX void cp_async_wait_group() { asm volatile("cp.async.wait_group %0;" :: "n"(kPending) : "memory"); }
// All of this thread's copies have landed, committed or not.
FASTNET_PTX void cp_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// ---- ldmatrix, stmatrix: 8x8 matrices of 16-bit elements -------------------------------------------------------
// Lane 8j + i gives the 16-byte aligned address of row i of matrix j. Register j of a lane holds elements
// (g, 2t) and (g, 2t + 1) of matrix j; with _trans, (2t, g) and (2t + 1, g).

#define FASTNET_MATRIX_X1(name, modifiers) \
    FASTNET_PTX void ld##name(uint32_t (&r)[1], const void* row) { \
        asm volatile("ldmatrix.sync.aligned.m8n8.x1" modifiers ".shared.b16 {%0}, [%1];" \
                     : "=r"(r[0]) : "r"(shared_offset(row)) : "memory"); \
    } \
    FASTNET_PTX void st##name(void* row, const uint32_t (&r)[1]) { \
        asm volatile("stmatrix.sync.aligned.m8n8.x1" modifiers ".shared.b16 [%0], {%1};" \
                     :: "r"(shared_offset(row)), "r"(r[0]) : "memory"); \
    }
#define FASTNET_MATRIX_X2(name, modifiers) \
    FASTNET_PTX void ld##name(uint32_t (&r)[2], const void* row) { \
        asm volatile("ldmatrix.sync.aligned.m8n8.x2" modifiers ".shared.b16 {%0, %1}, [%2];" \
                     : "=r"(r[0]), "=r"(r[1]) : "r"(shared_offset(row)) : "memory"); \
    } \
    FASTNET_PTX void st##name(void* row, const uint32_t (&r)[2]) { \
        asm volatile("stmatrix.sync.aligned.m8n8.x2" modifiers ".shared.b16 [%0], {%1, %2};" \
                     :: "r"(shared_offset(row)), "r"(r[0]), "r"(r[1]) : "memory"); \
    }
#define FASTNET_MATRIX_X4(name, modifiers) \
    FASTNET_PTX void ld##name(uint32_t (&r)[4], const void* row) { \
        asm volatile("ldmatrix.sync.aligned.m8n8.x4" modifiers ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_offset(row)) : "memory"); \
    } \
    FASTNET_PTX void st##name(void* row, const uint32_t (&r)[4]) { \
        asm volatile("stmatrix.sync.aligned.m8n8.x4" modifiers ".shared.b16 [%0], {%1, %2, %3, %4};" \
                     :: "r"(shared_offset(row)), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory"); \
    }
// ldmatrix_x1 and stmatrix_x1 to ldmatrix_x4_trans and stmatrix_x4_trans
FASTNET_MATRIX_X1(matrix_x1, "")
FASTNET_MATRIX_X1(matrix_x1_trans, ".trans")
FASTNET_MATRIX_X2(matrix_x2, "")
FASTNET_MATRIX_X2(matrix_x2_trans, ".trans")
FASTNET_MATRIX_X4(matrix_x4, "")
FASTNET_MATRIX_X4(matrix_x4_trans, ".trans")
#undef FASTNET_MATRIX_X1
#undef FASTNET_MATRIX_X2
#undef FASTNET_MATRIX_X4

// ---- mma.sync: d += a b, a (16, K) row-major, b (K, 8) column-major, d (16, 8) ------------------------------------
// d, v < 4:         (g + 8 (v/2), 2t + v%2); as fp16, two to a register
// a, b 16-bit, k16: a, v < 8: (g + 8 (v/2%2), 2t + v%2 + 8 (v/4));   b, v < 4: (2t + v%2 + 8 (v/2), g);  k8: the first half
// a, b tf32:        a, v < 4: (g + 8 (v%2), t + 4 (v/2));            b, v < 2: (t + 4v, g)
// a, b int8:        a, v < 16: (g + 8 (v/4%2), 4t + v%4 + 16 (v/8)); b, v < 8: (4t + v%4 + 16 (v/4), g)

#define FASTNET_MMA_A4(name, instruction, D, constraint) \
    FASTNET_PTX void name(D (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) { \
        asm volatile("mma.sync.aligned." instruction " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
                     : constraint(d[0]), constraint(d[1]), constraint(d[2]), constraint(d[3]) \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); \
    }
#define FASTNET_MMA_A2(name, instruction) \
    FASTNET_PTX void name(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]) { \
        asm volatile("mma.sync.aligned." instruction " {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};" \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(b[0])); \
    }
FASTNET_MMA_A4(mma_m16n8k16_fp16, "m16n8k16.row.col.f32.f16.f16.f32", float, "+f")
FASTNET_MMA_A4(mma_m16n8k16_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32", float, "+f")
FASTNET_MMA_A4(mma_m16n8k8_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32", float, "+f")
FASTNET_MMA_A4(mma_m16n8k32_s8, "m16n8k32.row.col.s32.s8.s8.s32", int32_t, "+r")
FASTNET_MMA_A4(mma_m16n8k32_u8, "m16n8k32.row.col.s32.u8.u8.s32", int32_t, "+r")
FASTNET_MMA_A2(mma_m16n8k8_fp16, "m16n8k8.row.col.f32.f16.f16.f32")
FASTNET_MMA_A2(mma_m16n8k8_bf16, "m16n8k8.row.col.f32.bf16.bf16.f32")
#undef FASTNET_MMA_A4
#undef FASTNET_MMA_A2

// fp16 sums: two elements of d to a register.
FASTNET_PTX void mma_m16n8k16_fp16_fp16(uint32_t (&d)[2], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%0,%1};"
                 : "+r"(d[0]), "+r"(d[1]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The nearest tf32 (10 explicit bits of significand), ties away from zero. mma truncates what is not rounded before.
FASTNET_PTX uint32_t cvt_rna_tf32(float x) {
    uint32_t r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
    return r;
}

// 2^x to a relative 2^-22, results below 2^-126 as 0: one instruction, where exp2f has more for those.
FASTNET_PTX float ex2_approx_ftz(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

// ---- named barriers ---------------------------------------------------------------------------------------------
// Barrier `id` (1 to 15; 0 is __syncthreads) opens when `threads` have come, a multiple of 32. arrive does not wait.

FASTNET_PTX void bar_sync(int id, int threads) { asm volatile("bar.sync %0, %1;" :: "r"(id), "r"(threads) : "memory"); }
FASTNET_PTX void bar_arrive(int id, int threads) { asm volatile("bar.arrive %0, %1;" :: "r"(id), "r"(threads) : "memory"); }

// ---- a counter that blocks share --------------------------------------------------------------------------------
// At the scope of the device. add_release: what this thread has written, or has seen of others' writes, comes before the
// sum; a thread whose load_acquire sees that sum sees all of it. Barriers of the block carry both to its other threads.

FASTNET_PTX void add_release(uint32_t* p, uint32_t value) {
    asm volatile("red.release.gpu.add.u32 [%0], %1;" :: "l"(p), "r"(value) : "memory");
}
FASTNET_PTX uint32_t load_acquire(const uint32_t* p) {
    uint32_t value;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(p) : "memory");
    return value;
}

}  // namespace ptx

#undef FASTNET_PTX
#endif
