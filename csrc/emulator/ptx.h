// The PTX functions of gpu/ptx_asm.h as the emulator has them; defined in emu/ptx.cc.
#pragma once
#include "emulator.h"

namespace ptx {

inline uint32_t shared_offset(const void* p) { return emu::shared_offset(p); }

void cp_async_16(void* shared, const void* global, int valid = 16);
void cp_async_commit();
void cp_async_wait_group(int pending);
template <int kPending> void cp_async_wait() { cp_async_wait_group(kPending); }
void ldmatrix_x4(uint32_t (&r)[4], const void* row);
void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row);
void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);

void mbarrier_init(uint64_t* bar, uint32_t arrivals);
void mbarrier_arrive(uint64_t* bar);
void mbarrier_arrive_expect_tx(uint64_t* bar, uint32_t bytes);
void mbarrier_wait(uint64_t* bar, uint32_t parity);
inline void fence_barrier_init() {}

struct alignas(64) TensorMap {
    const char* base = nullptr;
    uint64_t dims[2]{}, row_bytes = 0;   // elements, innermost first; bytes from row to row
    uint32_t box[2]{}, element_bytes = 0, swizzle_bytes = 0;
};
TensorMap tensor_map_bf16(const void* base, uint64_t rows, uint64_t cols, uint64_t row_bytes,
                          uint32_t box_rows, uint32_t box_cols, uint32_t swizzle_bytes);
void tma_load_2d(void* shared, const TensorMap* map, uint64_t* bar, int col, int row);

template <int kRegs> void setmaxnreg_inc() { static_assert(kRegs % 8 == 0 && kRegs >= 24 && kRegs <= 256); }
template <int kRegs> void setmaxnreg_dec() { static_assert(kRegs % 8 == 0 && kRegs >= 24 && kRegs <= 256); }
void wgmma_fence();
void wgmma_commit();
void wgmma_wait_group(int pending);
template <int kPending> void wgmma_wait() { static_assert(kPending >= 0 && kPending <= 7); wgmma_wait_group(kPending); }
void wgmma_bf16(float* d, int n, uint64_t a, uint64_t b, bool trans_a, bool trans_b);
template <int kTransA = 0, int kTransB = 0>
void wgmma_m64n128k16_bf16(float (&d)[64], uint64_t a, uint64_t b) { wgmma_bf16(d, 128, a, b, kTransA, kTransB); }

}  // namespace ptx
