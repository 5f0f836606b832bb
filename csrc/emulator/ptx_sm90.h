// The functions of csrc/ptx/sm90.h as the emulator has them; csrc/emulator/ptx_sm90.cc defines them.
#pragma once
#include "../ptx/descriptor.h"
#include "emulator.h"

namespace ptx {

void mbarrier_init(uint64_t* bar, uint32_t arrivals);
void mbarrier_inval(uint64_t* bar);
void mbarrier_arrive(uint64_t* bar);
void mbarrier_arrive_expect_tx(uint64_t* bar, uint32_t bytes);
bool mbarrier_test(uint64_t* bar, uint32_t parity);
bool mbarrier_try_wait(uint64_t* bar, uint32_t parity);
void mbarrier_wait(uint64_t* bar, uint32_t parity);
// Nothing to order: emulated copies and products see shared memory as threads do.
inline void fence_mbarrier_init() {}
inline void fence_proxy_async() {}

struct alignas(64) TensorMap {
    TensorLayout layout;
};
inline TensorMap tensor_map(const TensorLayout& layout) {
    check(layout);
    return {layout};
}
inline void prefetch_tensor_map(const TensorMap*) {}
void tma_load_1d(void* shared, const TensorMap* map, uint64_t* bar, int c0);
void tma_load_2d(void* shared, const TensorMap* map, uint64_t* bar, int c0, int c1);
void tma_load_3d(void* shared, const TensorMap* map, uint64_t* bar, int c0, int c1, int c2);
void tma_load_4d(void* shared, const TensorMap* map, uint64_t* bar, int c0, int c1, int c2, int c3);
void tma_load_5d(void* shared, const TensorMap* map, uint64_t* bar, int c0, int c1, int c2, int c3, int c4);

bool elect_sync();

void emulated_setmaxnreg(int registers);
template <int kRegisters>
void setmaxnreg_inc() {
    static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
    emulated_setmaxnreg(kRegisters);
}
template <int kRegisters>
void setmaxnreg_dec() {
    static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
    emulated_setmaxnreg(-kRegisters);
}

void wgmma_fence();
void wgmma_commit();
void emulated_wgmma_wait(int pending);
template <int kPending>
void wgmma_wait_group() {
    static_assert(kPending >= 0 && kPending <= 7);
    emulated_wgmma_wait(kPending);
}
template <int kSize>
void wgmma_registers(float (&)[kSize]) {}

// What one lane asks for. The comparison is between the lanes of a warpgroup: all but d and a_registers agree.
struct WgmmaRequest {
    bool bf16;
    int n, trans_a, trans_b, scale_d;
    uint64_t a, b;                       // descriptors; a is 0 when A is in registers
    bool a_in_registers;
    const uint32_t* a_registers;
    float* d;
};
void emulated_wgmma(const WgmmaRequest& request);

template <int kN, int kTransA = 0, int kTransB = 0>
void wgmma_bf16(float (&d)[kN / 2], uint64_t a, uint64_t b, int scale_d = 1) {
    static_assert(kN % 8 == 0 && kN >= 8 && kN <= 256);
    emulated_wgmma({true, kN, kTransA, kTransB, scale_d != 0, a, b, false, nullptr, d});
}
template <int kN, int kTransA = 0, int kTransB = 0>
void wgmma_fp16(float (&d)[kN / 2], uint64_t a, uint64_t b, int scale_d = 1) {
    static_assert(kN % 8 == 0 && kN >= 8 && kN <= 256);
    emulated_wgmma({false, kN, kTransA, kTransB, scale_d != 0, a, b, false, nullptr, d});
}
template <int kN, int kTransB = 0>
void wgmma_bf16(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, int scale_d = 1) {
    static_assert(kN % 8 == 0 && kN >= 8 && kN <= 256);
    emulated_wgmma({true, kN, 0, kTransB, scale_d != 0, 0, b, true, a, d});
}
template <int kN, int kTransB = 0>
void wgmma_fp16(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, int scale_d = 1) {
    static_assert(kN % 8 == 0 && kN >= 8 && kN <= 256);
    emulated_wgmma({false, kN, 0, kTransB, scale_d != 0, 0, b, true, a, d});
}

}  // namespace ptx
