// The functions of csrc/ptx/sm80.h as the emulator has them; csrc/emulator/ptx_sm80.cc defines them.
#pragma once
#include "emulator.h"

namespace ptx {

inline uint32_t shared_offset(const void* p) { return emu::shared_offset(p); }
inline int opaque(int x) { return x; }

void cp_async_4(void* shared, const void* global, int valid = 4);
void cp_async_8(void* shared, const void* global, int valid = 8);
void cp_async_16(void* shared, const void* global, int valid = 16);
void cp_async_16_cg(void* shared, const void* global, int valid = 16);
void cp_async_commit();
void emulated_cp_async_wait(int pending);
template <int kPending>
void cp_async_wait_group() {
    static_assert(kPending >= 0);
    emulated_cp_async_wait(kPending);
}
void cp_async_wait_all();

void ldmatrix_x1(uint32_t (&r)[1], const void* row);
void ldmatrix_x1_trans(uint32_t (&r)[1], const void* row);
void ldmatrix_x2(uint32_t (&r)[2], const void* row);
void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row);
void ldmatrix_x4(uint32_t (&r)[4], const void* row);
void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row);
void stmatrix_x1(void* row, const uint32_t (&r)[1]);
void stmatrix_x1_trans(void* row, const uint32_t (&r)[1]);
void stmatrix_x2(void* row, const uint32_t (&r)[2]);
void stmatrix_x2_trans(void* row, const uint32_t (&r)[2]);
void stmatrix_x4(void* row, const uint32_t (&r)[4]);
void stmatrix_x4_trans(void* row, const uint32_t (&r)[4]);

void mma_m16n8k16_fp16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_m16n8k32_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_m16n8k32_u8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
void mma_m16n8k8_fp16(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]);
void mma_m16n8k8_bf16(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]);
void mma_m16n8k16_fp16_fp16(uint32_t (&d)[2], const uint32_t (&a)[4], const uint32_t (&b)[2]);
uint32_t cvt_rna_tf32(float x);
float ex2_approx_ftz(float x);

void bar_sync(int id, int threads);
void bar_arrive(int id, int threads);

void add_release(uint32_t* p, uint32_t value);
uint32_t load_acquire(const uint32_t* p);

}  // namespace ptx
