// One function per sm_90 instruction: mbarriers, clusters, TMA, wgmma, register reallocation. Everything from "wgmma" on needs
// sm_90a. csrc/emulator/ptx_sm90.h declares the same functions for the emulator.
#pragma once
#include "descriptor.h"
#include "sm80.h"

#ifndef __CUDACC__
#include "../emulator/ptx_sm90.h"
#else

#include "wgmma_operands.h"
#include <cuda.h>

#define FASTNET_PTX __device__ __forceinline__

namespace ptx {

// ---- mbarrier -------------------------------------------------------------------------------------------------
// Eight bytes of shared memory. A phase ends when `arrivals` have come and no bytes are outstanding. Waiting for parity p
// returns once the phase of that parity has ended: on a fresh barrier 0 waits and 1 passes.

FASTNET_PTX void mbarrier_init(uint64_t* bar, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(shared_offset(bar)), "r"(arrivals) : "memory");
}
// The eight bytes are ordinary memory again.
FASTNET_PTX void mbarrier_inval(uint64_t* bar) {
    asm volatile("mbarrier.inval.shared::cta.b64 [%0];" :: "r"(shared_offset(bar)) : "memory");
}
FASTNET_PTX void mbarrier_arrive(uint64_t* bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(shared_offset(bar)) : "memory");
}
// Arrives, and the phase also waits for `bytes` of TMA loads.
FASTNET_PTX void mbarrier_arrive_expect_tx(uint64_t* bar, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(shared_offset(bar)), "r"(bytes) : "memory");
}
// Whether the phase has ended, at once.
FASTNET_PTX bool mbarrier_test(uint64_t* bar, uint32_t parity) {
    uint32_t done;
    asm volatile("{\n.reg .pred p;\nmbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(done) : "r"(shared_offset(bar)), "r"(parity) : "memory");
    return done;
}
// The same after sleeping for a while, of the hardware's choice.
FASTNET_PTX bool mbarrier_try_wait(uint64_t* bar, uint32_t parity) {
    uint32_t done;
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(done) : "r"(shared_offset(bar)), "r"(parity) : "memory");
    return done;
}
FASTNET_PTX void mbarrier_wait(uint64_t* bar, uint32_t parity) {
    while (!mbarrier_try_wait(bar, parity)) {}
}
// By the thread that initialised, before the barrier that shows the mbarriers to others: TMA sees them too.
FASTNET_PTX void fence_mbarrier_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
// Between a thread's ordinary accesses to shared memory and TMA's or wgmma's, before the barrier in between.
FASTNET_PTX void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- clusters ----------------------------------------------------------------------------------------------------
// The blocks of gpu::launch_cluster that run at once. A block must not end while another may still reach its shared memory.

FASTNET_PTX uint32_t cluster_rank() {
    uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
FASTNET_PTX uint32_t cluster_size() {
    uint32_t size;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return size;
}
// A barrier of all threads of the cluster, in two halves, each by whole warps. What came before the one is seen after the other.
FASTNET_PTX void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
FASTNET_PTX void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
FASTNET_PTX void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}
// The same place in the shared memory of block `rank`, for ordinary loads and stores.
template <class T>
FASTNET_PTX T* cluster_map(T* shared, uint32_t rank) {
    uint64_t there;
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(shared), "r"(rank));
    return reinterpret_cast<T*>(there);
}
// Arrives at the barrier that lies in the same place in block `rank`. Orders what TMA and wgmma do, but no ordinary memory
// between blocks: that takes cluster_arrive and cluster_wait.
FASTNET_PTX void mbarrier_arrive_cluster(uint64_t* bar, uint32_t rank) {
    asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n}"
                 :: "r"(shared_offset(bar)), "r"(rank) : "memory");
}

// ---- TMA ---------------------------------------------------------------------------------------------------------

using TensorMap = CUtensorMap;           // a kernel takes it as `const __grid_constant__ ptx::TensorMap`

// Encoded by the driver, found at run time: nothing links against libcuda.
inline TensorMap tensor_map(const TensorLayout& t) {
    check(t);
    void* encode = nullptr;
    cudaDriverEntryPointQueryResult found;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, 12000, cudaEnableDefault, &found) != cudaSuccess || !encode)
        throw std::runtime_error("tensor map: this driver has no cuTensorMapEncodeTiled; it needs CUDA 12");
    const CUtensorMapDataType types[] = {
        CU_TENSOR_MAP_DATA_TYPE_UINT8,   CU_TENSOR_MAP_DATA_TYPE_UINT16,  CU_TENSOR_MAP_DATA_TYPE_UINT32,
        CU_TENSOR_MAP_DATA_TYPE_INT32,   CU_TENSOR_MAP_DATA_TYPE_UINT64,  CU_TENSOR_MAP_DATA_TYPE_INT64,
        CU_TENSOR_MAP_DATA_TYPE_FLOAT16, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, CU_TENSOR_MAP_DATA_TYPE_FLOAT64,
        CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, CU_TENSOR_MAP_DATA_TYPE_TFLOAT32};
    const CUtensorMapSwizzle swizzle = t.swizzle == Swizzle::span128  ? CU_TENSOR_MAP_SWIZZLE_128B
                                       : t.swizzle == Swizzle::span64 ? CU_TENSOR_MAP_SWIZZLE_64B
                                       : t.swizzle == Swizzle::span32 ? CU_TENSOR_MAP_SWIZZLE_32B
                                                                      : CU_TENSOR_MAP_SWIZZLE_NONE;
    const uint32_t steps[5] = {1, 1, 1, 1, 1};
    alignas(64) TensorMap map{};
    const CUresult result = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(encode)(
        &map, types[int(t.element)], cuuint32_t(t.rank), const_cast<void*>(t.base), t.sizes, t.strides + 1, t.box, steps,
        CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) throw std::runtime_error("tensor map: cuTensorMapEncodeTiled returned " + std::to_string(int(result)));
    return map;
}

FASTNET_PTX void prefetch_tensor_map(const TensorMap* map) { asm volatile("prefetch.tensormap [%0];" :: "l"(map) : "memory"); }

// The map's box from coordinates c0 (innermost), c1, ... to `shared`, a multiple of 128 (of 8 spans for wgmma). One thread
// issues; the whole box's bytes are subtracted from what `bar` expects, wherever the tensor ends.
// _multicast: the box comes to that place in every block of the cluster whose bit is set in `blocks`, and its bytes are
// subtracted at the barrier that lies in the same place as `bar` there.
// tma_store: shared memory to the box in global memory, but for what lies outside the tensor; tma_reduce_add adds to it,
// element by element in any order. Elements' type: the map's.
#define FASTNET_TMA(rank, at, multicast_at, store_at, parameters, coordinates) \
    FASTNET_PTX void tma_load_##rank##d(void* shared, const TensorMap* map, uint64_t* bar, parameters) { \
        asm volatile("cp.async.bulk.tensor." #rank "d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {" at "}], [%2];" \
                     :: "r"(shared_offset(shared)), "l"(map), "r"(shared_offset(bar)), coordinates : "memory"); \
    } \
    FASTNET_PTX void tma_load_##rank##d_multicast(void* shared, const TensorMap* map, uint64_t* bar, uint16_t blocks, parameters) { \
        asm volatile("cp.async.bulk.tensor." #rank "d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster" \
                     " [%0], [%1, {" multicast_at "}], [%2], %3;" \
                     :: "r"(shared_offset(shared)), "l"(map), "r"(shared_offset(bar)), "h"(blocks), coordinates : "memory"); \
    } \
    FASTNET_PTX void tma_store_##rank##d(const TensorMap* map, const void* shared, parameters) { \
        asm volatile("cp.async.bulk.tensor." #rank "d.global.shared::cta.tile.bulk_group [%0, {" store_at "}], [%1];" \
                     :: "l"(map), "r"(shared_offset(shared)), coordinates : "memory"); \
    } \
    FASTNET_PTX void tma_reduce_add_##rank##d(const TensorMap* map, const void* shared, parameters) { \
        asm volatile("cp.reduce.async.bulk.tensor." #rank "d.global.shared::cta.add.tile.bulk_group [%0, {" store_at "}], [%1];" \
                     :: "l"(map), "r"(shared_offset(shared)), coordinates : "memory"); \
    }
#define FASTNET_AND ,
FASTNET_TMA(1, "%3", "%4", "%2", int c0, "r"(c0))
FASTNET_TMA(2, "%3, %4", "%4, %5", "%2, %3", int c0 FASTNET_AND int c1, "r"(c0) FASTNET_AND "r"(c1))
FASTNET_TMA(3, "%3, %4, %5", "%4, %5, %6", "%2, %3, %4", int c0 FASTNET_AND int c1 FASTNET_AND int c2,
            "r"(c0) FASTNET_AND "r"(c1) FASTNET_AND "r"(c2))
FASTNET_TMA(4, "%3, %4, %5, %6", "%4, %5, %6, %7", "%2, %3, %4, %5",
            int c0 FASTNET_AND int c1 FASTNET_AND int c2 FASTNET_AND int c3,
            "r"(c0) FASTNET_AND "r"(c1) FASTNET_AND "r"(c2) FASTNET_AND "r"(c3))
FASTNET_TMA(5, "%3, %4, %5, %6, %7", "%4, %5, %6, %7, %8", "%2, %3, %4, %5, %6",
            int c0 FASTNET_AND int c1 FASTNET_AND int c2 FASTNET_AND int c3 FASTNET_AND int c4,
            "r"(c0) FASTNET_AND "r"(c1) FASTNET_AND "r"(c2) FASTNET_AND "r"(c3) FASTNET_AND "r"(c4))
#undef FASTNET_AND
#undef FASTNET_TMA

// By the thread that issued stores: those since the last commit are a group. wait_read: all but the newest kPending groups
// have read shared memory, which may be overwritten; needed before the block ends. wait: they have written, too.
FASTNET_PTX void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int kPending>
FASTNET_PTX void tma_store_wait_read() { asm volatile("cp.async.bulk.wait_group.read %0;" :: "n"(kPending) : "memory"); }
template <int kPending>
FASTNET_PTX void tma_store_wait() { asm volatile("cp.async.bulk.wait_group %0;" :: "n"(kPending) : "memory"); }

// True in one lane of the full warp.
FASTNET_PTX bool elect_sync() {
    uint32_t elected;
    asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(elected) :: "memory");
    return elected;
}

// ---- wgmma (sm_90a) ----------------------------------------------------------------------------------------------
// d += a b by the four warps of an aligned warpgroup: a (64, 16), b (16, N), d (64, N) fp32, N = 8, 16, ..., 256.
// Element v of a lane in warp w of its group, g = lane / 4, t = lane % 4:
//   d, v < N/2: (16w + g + 8 (v/2%2), 8 (v/4) + 2t + v%2)      a in registers, v < 8: (16w + g + 8 (v/2%2), 2t + v%2 + 8 (v/4))
// wgmma_fence before the first and after any other access to d or a's registers; commit; wait; only then touch d, a's
// registers or release the operands' shared memory. scale_d = 0 ignores the old d.

// 24 to 256 in steps of 8, by all warps of a warpgroup; the kernel needs __launch_bounds__.
template <int kRegisters>
FASTNET_PTX void setmaxnreg_inc() {
    static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(kRegisters));
}
template <int kRegisters>
FASTNET_PTX void setmaxnreg_dec() {
    static_assert(kRegisters % 8 == 0 && kRegisters >= 24 && kRegisters <= 256);
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(kRegisters));
}

FASTNET_PTX void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
FASTNET_PTX void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// All but the newest kPending groups have ended.
template <int kPending>
FASTNET_PTX void wgmma_wait_group() {
    static_assert(kPending >= 0 && kPending <= 7);
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(kPending) : "memory");
}
// The compiler moves no access to d across this: on d before the first wgmma_fence and after the wait.
template <int kSize>
FASTNET_PTX void wgmma_registers(float (&d)[kSize]) {
#pragma unroll
    for (int i = 0; i < kSize; ++i) asm volatile("" : "+f"(d[i]) :: "memory");
}

// The same of A's registers.
template <int kSize>
FASTNET_PTX void wgmma_registers(uint32_t (&a)[kSize]) {
#pragma unroll
    for (int i = 0; i < kSize; ++i) asm volatile("" : "+r"(a[i]) :: "memory");
}

// Both operands in shared memory; kTrans: M- or N-major.
#define FASTNET_WGMMA_SS(n8, n, i0, i1, i2, i3, i4, i5, i6) \
    if constexpr (kN == n) \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #i2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k16" FASTNET_WGMMA_TYPES \
                     " {" FASTNET_WGMMA_D##n8 "}, %" #i0 ", %" #i1 ", p, 1, 1, %" #i3 ", %" #i4 ";\n}" \
                     : FASTNET_WGMMA_R##n8 : "l"(a), "l"(b), "r"(scale_d), "n"(kTransA), "n"(kTransB));
// A in registers.
#define FASTNET_WGMMA_RS(n8, n, i0, i1, i2, i3, i4, i5, i6) \
    if constexpr (kN == n) \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #i5 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k16" FASTNET_WGMMA_TYPES \
                     " {" FASTNET_WGMMA_D##n8 "}, {%" #i0 ",%" #i1 ",%" #i2 ",%" #i3 "}, %" #i4 ", p, 1, 1, %" #i6 ";\n}" \
                     : FASTNET_WGMMA_R##n8 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(scale_d), "n"(kTransB));
// The instruction's shape is text: one literal for each N.
#define FASTNET_WGMMA_FUNCTIONS(type) \
    template <int kN, int kTransA = 0, int kTransB = 0> \
    FASTNET_PTX void wgmma_##type(float (&d)[kN / 2], uint64_t a, uint64_t b, int scale_d = 1) { \
        static_assert(kN % 8 == 0 && kN >= 8 && kN <= 256); \
        FASTNET_WGMMA_SHAPES(FASTNET_WGMMA_SS) \
    } \
    template <int kN, int kTransB = 0> \
    FASTNET_PTX void wgmma_##type(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, int scale_d = 1) { \
        static_assert(kN % 8 == 0 && kN >= 8 && kN <= 256); \
        FASTNET_WGMMA_SHAPES(FASTNET_WGMMA_RS) \
    }
#define FASTNET_WGMMA_TYPES ".f32.bf16.bf16"
FASTNET_WGMMA_FUNCTIONS(bf16)
#undef FASTNET_WGMMA_TYPES
#define FASTNET_WGMMA_TYPES ".f32.f16.f16"
FASTNET_WGMMA_FUNCTIONS(fp16)
#undef FASTNET_WGMMA_TYPES
#undef FASTNET_WGMMA_FUNCTIONS
#undef FASTNET_WGMMA_RS
#undef FASTNET_WGMMA_SS

}  // namespace ptx

#undef FASTNET_PTX
#endif
