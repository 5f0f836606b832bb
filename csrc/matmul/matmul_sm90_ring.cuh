// A ring of stages in shared memory between a producer and the warpgroups that multiply what it brings: for any kernel
// whose inner loop is wgmma on tiles of 64 k, whoever fills them.
//
// A stage holds a tile of a, then a tile of b, as TMA leaves them with a swizzle of 128 bytes, in either major order:
//   k       rows of 64 k (128 bytes), one for each row of a or column of b
//   outer   boxes of 64 rows (columns): 64 rows of k of 128 bytes each
// In both, what belongs to 64 rows (columns) is 8 KiB, so that a warpgroup's part begins at its first row times 128.
#pragma once
#include "../ptx/sm90.h"

#include <type_traits>

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FASTNET_SM90A 1
#endif

namespace matmul_sm90 {

constexpr int kStep = 64;                        // k of a stage
constexpr int kRowBytes = 128;                   // of 64 k, or of 64 rows or columns
constexpr int kBox = 64 * kRowBytes;

// Both sides walk through the stages in the same order, each with a Ring of its own. Before its first use a stage is empty.
struct Ring {
    uint64_t *full, *empty;                      // (stages,): what a stage holds has come; nobody reads it any more
    int stages;
    int stage = 0;
    uint32_t phase = 0;                          // changes from round to round

    // `full_arrivals` of each round fill a stage, beside the bytes of TMA; one of every warp that reads it empties it, in
    // all blocks of the cluster that read what this block's producer brings. By one thread; then a barrier, the cluster's
    // where there is one.
    __device__ __forceinline__ void init(int full_arrivals, int empty_arrivals) const {
        for (int s = 0; s < stages; ++s) {
            ptx::mbarrier_init(&full[s], uint32_t(full_arrivals));
            ptx::mbarrier_init(&empty[s], uint32_t(empty_arrivals));
        }
        ptx::fence_mbarrier_init();
    }
    __device__ __forceinline__ void wait_empty() const { ptx::mbarrier_wait(&empty[stage], phase ^ 1); }
    __device__ __forceinline__ void wait_full() const { ptx::mbarrier_wait(&full[stage], phase); }
    // By a whole warp, which has read the stage.
    __device__ __forceinline__ void release(int which, int cluster) const {
        const int lane = int(threadIdx.x) % 32;
        if (cluster == 1) {
            if (lane == 0) ptx::mbarrier_arrive(&empty[which]);
        } else if (lane < cluster) {
            ptx::mbarrier_arrive_cluster(&empty[which], uint32_t(lane));
        }
    }
    __device__ __forceinline__ void advance() {
        if (++stage == stages) stage = 0, phase ^= 1;
    }
};

// The side of a producer that fills stages by its own copies (cp.async, and ordinary stores): all of its threads, a warp's
// together. A warp hands a stage over when its copies have landed, some steps later. Consumers release a stage when they have begun
// with the next one: it and those in flight must not be all.
class Copies {
  public:
    __device__ __forceinline__ explicit Copies(const Ring& ring) : filled(ring), most(min(ring.stages - 2, 4)) {}
    // This thread's copies since the last call are all it has for the stage after the last one's.
    __device__ __forceinline__ void next_stage() {
        ptx::cp_async_commit();
        if (++in_flight <= most) return;
        switch (most) {
            case 1: ptx::cp_async_wait_group<1>(); break;
            case 2: ptx::cp_async_wait_group<2>(); break;
            case 3: ptx::cp_async_wait_group<3>(); break;
            default: ptx::cp_async_wait_group<4>();
        }
        hand_over();
    }
    __device__ __forceinline__ void finish() {
        ptx::cp_async_wait_all();
        while (in_flight) hand_over();
    }

  private:
    Ring filled;
    int most, in_flight = 0;

    __device__ __forceinline__ void hand_over() {
        ptx::fence_proxy_async();                // ordinary writes, before wgmma reads them
        __syncwarp();
        if (threadIdx.x % 32 == 0) ptx::mbarrier_arrive(&filled.full[filled.stage]);
        filled.advance();
        --in_flight;
    }
};

// Descriptor of a warpgroup's part of a tile that begins at shared offset `start`.
template <bool kOuter>
__device__ __forceinline__ uint64_t descriptor(uint32_t start) {
    if constexpr (kOuter) return ptx::mn_major_descriptor<ptx::Swizzle::span128>(start, kBox);
    else return ptx::k_major_descriptor<ptx::Swizzle::span128>(start);
}
// From 16 k to the next in a descriptor, whose unit is 16 bytes.
template <bool kOuter>
constexpr uint64_t kNextSlice = (kOuter ? 16 * kRowBytes : 32) >> 4;

// sums = the product over `steps` stages. `a`, `b`: descriptors of this warpgroup's parts in the first stage. also(stage):
// what else is to be done with a stage that is full, while the products of the one before go on.
template <class T, int kN, bool kAOuter, bool kBOuter, int kStageBytes, class Also>
__device__ __forceinline__ void multiply(float (&sums)[kN / 2], Ring& ring, uint64_t a, uint64_t b, int steps, int cluster,
                                         Also also) {
    // Zeros, though the first product could overwrite what is there: what is there would have to live until then.
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) sums[i] = 0;
    int before = 0;
    ptx::wgmma_registers(sums);
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
        ring.wait_full();
        also(ring.stage);
        ptx::wgmma_fence();
        const uint64_t at = uint64_t(ring.stage) * (kStageBytes >> 4);
#pragma unroll
        for (int slice = 0; slice < kStep / 16; ++slice) {
            const uint64_t da = a + at + slice * kNextSlice<kAOuter>, db = b + at + slice * kNextSlice<kBOuter>;
            if constexpr (std::is_same_v<T, __half>) ptx::wgmma_fp16<kN, kAOuter, kBOuter>(sums, da, db);
            else ptx::wgmma_bf16<kN, kAOuter, kBOuter>(sums, da, db);
        }
        ptx::wgmma_commit();
        ptx::wgmma_wait_group<1>();                        // the step before has been read
        if (step > 0) ring.release(before, cluster);
        before = ring.stage;
        ring.advance();
    }
    ptx::wgmma_wait_group<0>();
    if (steps > 0) ring.release(before, cluster);
    ptx::wgmma_registers(sums);
}

}  // namespace matmul_sm90
