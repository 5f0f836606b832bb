// The functions of csrc/ptx/sm90.h as the emulator has them; csrc/emulator/ptx_sm90.cc defines them.
#pragma once
#include "../ptx/descriptor.h"
#include "emulator.h"

#include <initializer_list>

namespace ptx {

void mbarrier_init(uint64_t* bar, uint32_t arrivals);
void mbarrier_inval(uint64_t* bar);
void mbarrier_arrive(uint64_t* bar);
void mbarrier_arrive_expect_tx(uint64_t* bar, uint32_t bytes);
bool mbarrier_test(uint64_t* bar, uint32_t parity);
bool mbarrier_try_wait(uint64_t* bar, uint32_t parity);
void mbarrier_wait(uint64_t* bar, uint32_t parity);
inline void fence_mbarrier_init() {}     // nothing to order: an emulated mbarrier is seen at once
inline void fence_proxy_async() { emu::fence_async_view(); }

inline uint32_t cluster_rank() { return emu::cluster_rank(); }
inline uint32_t cluster_size() { return emu::cluster_size(); }
void cluster_arrive();
void cluster_wait();
inline void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}
template <class T>
T* cluster_map(T* shared, uint32_t rank) { return reinterpret_cast<T*>(emu::in_peer(shared, rank)); }
void mbarrier_arrive_cluster(uint64_t* bar, uint32_t rank);

struct alignas(64) TensorMap {
    TensorLayout layout;
};
inline TensorMap tensor_map(const TensorLayout& layout) {
    check(layout);
    return {layout};
}
inline void prefetch_tensor_map(const TensorMap*) {}
enum class TmaKind { store, reduce_add };
void emulated_tma_load(int rank, void* shared, const TensorMap* map, uint64_t* bar, bool multicast, uint32_t blocks,
                       std::initializer_list<int> at);
void emulated_tma_store(int rank, TmaKind kind, const TensorMap* map, const void* shared, std::initializer_list<int> at);
#define FASTNET_TMA(rank, parameters, coordinates) \
    inline void tma_load_##rank##d(void* shared, const TensorMap* map, uint64_t* bar, parameters) { \
        emulated_tma_load(rank, shared, map, bar, false, 0, {coordinates}); \
    } \
    inline void tma_load_##rank##d_multicast(void* shared, const TensorMap* map, uint64_t* bar, uint16_t blocks, parameters) { \
        emulated_tma_load(rank, shared, map, bar, true, blocks, {coordinates}); \
    } \
    inline void tma_store_##rank##d(const TensorMap* map, const void* shared, parameters) { \
        emulated_tma_store(rank, TmaKind::store, map, shared, {coordinates}); \
    } \
    inline void tma_reduce_add_##rank##d(const TensorMap* map, const void* shared, parameters) { \
        emulated_tma_store(rank, TmaKind::reduce_add, map, shared, {coordinates}); \
    }
#define FASTNET_AND ,
FASTNET_TMA(1, int c0, c0)
FASTNET_TMA(2, int c0 FASTNET_AND int c1, c0 FASTNET_AND c1)
FASTNET_TMA(3, int c0 FASTNET_AND int c1 FASTNET_AND int c2, c0 FASTNET_AND c1 FASTNET_AND c2)
FASTNET_TMA(4, int c0 FASTNET_AND int c1 FASTNET_AND int c2 FASTNET_AND int c3, c0 FASTNET_AND c1 FASTNET_AND c2 FASTNET_AND c3)
FASTNET_TMA(5, int c0 FASTNET_AND int c1 FASTNET_AND int c2 FASTNET_AND int c3 FASTNET_AND int c4,
            c0 FASTNET_AND c1 FASTNET_AND c2 FASTNET_AND c3 FASTNET_AND c4)
#undef FASTNET_AND
#undef FASTNET_TMA
void tma_store_commit();
void emulated_tma_store_wait(int pending, bool written);
template <int kPending>
void tma_store_wait_read() { emulated_tma_store_wait(kPending, false); }
template <int kPending>
void tma_store_wait() { emulated_tma_store_wait(kPending, true); }

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
template <int kSize>
void wgmma_registers(uint32_t (&)[kSize]) {}

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
