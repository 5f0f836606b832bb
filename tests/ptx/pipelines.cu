// Two small matrix products through pipelines, right and with one mistake each: what the emulator is there to notice.
// C = A B^T, A (64, K), B (64, K) bf16 or fp16 row-major, C (64, 64) fp32; K = 6 tiles, more than the stages.
#include "cases.h"

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SM90A 1
#endif

namespace {

constexpr int kStages = 3, kTiles = 6;

enum class Mistake {
    none,
    no_wait,
    wait_off_by_one,
    released_early,
    no_empty_wait,
    no_full_wait,
    no_wgmma_wait,
    no_wgmma_fence,
    few_bytes,
    many_bytes,
    descriptor_out_of_range,
    warp_missing,
    warps_differ,
    lanes_differ,
    accumulator_touched,
    no_init
};

void check_product(const std::vector<float>& got, int k) {
    std::vector<float> want(64 * 64);
    for (int m = 0; m < 64; ++m)
        for (int n = 0; n < 64; ++n) {
            int sum = 0;
            for (int i = 0; i < k; ++i) sum += small_integer(m * k + i, 1) * small_integer(n * k + i, 2);
            want[std::size_t(m * 64 + n)] = float(sum);
        }
    expect_equal(got, want, "c");
}
std::vector<uint16_t> matrix(int k, int seed) {
    std::vector<uint16_t> m(std::size_t(64 * k));
    for (std::size_t i = 0; i < m.size(); ++i) m[i] = bits16(small_integer(int(i), seed), true);
    return m;
}

// ---- cp.async, ldmatrix, mma.sync ----------------------------------------------------------------------------------

constexpr int kBK80 = 16, kRow80 = 24;  // elements of a row in shared memory: 48 bytes spread ldmatrix over all banks

template <Mistake kMistake>
__global__ void __launch_bounds__(128) pipeline_sm80_kernel(float* c, const uint16_t* a, const uint16_t* b) {
    GPU_SHARED(shared);
    constexpr int kK = kTiles * kBK80;
    auto* tiles = reinterpret_cast<uint16_t*>(shared);  // (kStages, 128 rows, kRow80): A's 64 rows, then B's
    const int t = int(threadIdx.x), lane = t % 32, warp = t / 32;
    auto load = [&](int tile) {
        if (tile < kTiles)
            for (int i = t; i < 256; i += 128) {
                const int row = i / 2, col = i % 2 * 8;
                const uint16_t* from = (row < 64 ? a + row * kK : b + (row - 64) * kK) + tile * kBK80 + col;
                ptx::cp_async_16_cg(tiles + (tile % kStages * 128 + row) * kRow80 + col, from);
            }
        ptx::cp_async_commit();
    };
    float sums[8][4] = {};
    for (int tile = 0; tile < kStages - 1; ++tile) load(tile);
    for (int tile = 0; tile < kTiles; ++tile) {
        if (kMistake == Mistake::wait_off_by_one) ptx::cp_async_wait_group<kStages - 1>();
        else if (kMistake != Mistake::no_wait) ptx::cp_async_wait_group<kStages - 2>();
        if (kMistake == Mistake::released_early) load(tile + kStages - 1);  // others may still read that stage
        __syncthreads();  // the tile has landed for all; the one before has been read by all
        if (kMistake != Mistake::released_early) load(tile + kStages - 1);
        const uint16_t* s = tiles + tile % kStages * 128 * kRow80;
        uint32_t fa[4];
        ptx::ldmatrix_x4(fa, s + (warp * 16 + lane % 16) * kRow80 + lane / 16 * 8);
#pragma unroll
        for (int j = 0; j < 8; j += 2) {
            uint32_t fb[4];
            ptx::ldmatrix_x4(fb, s + (64 + j * 8 + lane % 8 + lane / 16 * 8) * kRow80 + lane / 8 % 2 * 8);
            const uint32_t b0[2] = {fb[0], fb[1]}, b1[2] = {fb[2], fb[3]};
            ptx::mma_m16n8k16_bf16(sums[j], fa, b0);
            ptx::mma_m16n8k16_bf16(sums[j + 1], fa, b1);
        }
    }
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int v = 0; v < 4; ++v)
            c[(warp * 16 + lane / 4 + v / 2 * 8) * 64 + j * 8 + lane % 4 * 2 + v % 2] = sums[j][v];
}

template <Mistake kMistake>
void pipeline_sm80() {
    constexpr int kK = kTiles * kBK80;
    Array<uint16_t> a(matrix(kK, 1)), b(matrix(kK, 2));
    Array<float> c(std::vector<float>(64 * 64));
    gpu::launch<pipeline_sm80_kernel<kMistake>>(dim3(1), dim3(128), kStages * 128 * kRow80 * 2, kNoStream, c.data(),
                                                a.data(), b.data());
    check_product(c.read(), kK);
}
const Test sm80_test("pipeline_sm80", pipeline_sm80<Mistake::none>);
const Planted sm80_planted[] = {
    {"sm80_no_wait", pipeline_sm80<Mistake::no_wait>},
    {"sm80_wait_off_by_one", pipeline_sm80<Mistake::wait_off_by_one>},
    {"sm80_released_early", pipeline_sm80<Mistake::released_early>},
};

// ---- TMA, mbarriers, wgmma -----------------------------------------------------------------------------------------

constexpr int kBK90 = 64, kTileBytes = 64 * kBK90 * 2, kStageBytes = 2 * kTileBytes;

template <Mistake kMistake>
__global__ void __launch_bounds__(256, 1) pipeline_sm90_kernel(const __grid_constant__ ptx::TensorMap map_a,
                                                               const __grid_constant__ ptx::TensorMap map_b, float* c) {
#ifdef SM90A
    GPU_SHARED(shared);
    auto* full = reinterpret_cast<uint64_t*>(shared + kStages * kStageBytes);
    uint64_t* empty = full + kStages;
    const int t = int(threadIdx.x), lane = t % 32, warp = t / 32 % 4;
    if (t == 0) {
        for (int s = 0; s < kStages && kMistake != Mistake::no_init; ++s) {
            ptx::mbarrier_init(&full[s], 1);
            ptx::mbarrier_init(&empty[s], 4);  // one arrival a warp
        }
        ptx::fence_mbarrier_init();
    }
    __syncthreads();
    if (t >= 128) {  // producer
        if (t == 128)
            for (int tile = 0; tile < kTiles; ++tile) {
                const int s = tile % kStages;
                unsigned char* to = shared + s * kStageBytes;
                if (kMistake != Mistake::no_empty_wait) ptx::mbarrier_wait(&empty[s], uint32_t(tile / kStages + 1) & 1);
                ptx::mbarrier_arrive_expect_tx(&full[s], kStageBytes + (kMistake == Mistake::many_bytes ? 16 : 0) -
                                                             (kMistake == Mistake::few_bytes ? 16 : 0));
                ptx::tma_load_2d(to, &map_a, &full[s], tile * kBK90, 0);
                ptx::tma_load_2d(to + kTileBytes, &map_b, &full[s], tile * kBK90, 0);
            }
        return;
    }
    float sums[32] = {};
    ptx::wgmma_registers(sums);
    for (int tile = 0; tile < kTiles; ++tile) {
        const int s = tile % kStages;
        if (kMistake != Mistake::no_full_wait) ptx::mbarrier_wait(&full[s], uint32_t(tile / kStages) & 1);
        if (kMistake != Mistake::no_wgmma_fence) ptx::wgmma_fence();
#pragma unroll
        for (int k = 0; k < kBK90; k += 16) {
            const uint32_t at = ptx::shared_offset(shared + s * kStageBytes) + uint32_t(k) * 2;
            uint64_t a = ptx::k_major_descriptor<ptx::Swizzle::span128>(at);
            uint64_t b = ptx::k_major_descriptor<ptx::Swizzle::span128>(at + kTileBytes);
            if (kMistake == Mistake::descriptor_out_of_range)
                b = ptx::k_major_descriptor<ptx::Swizzle::span128>(at, 64 * 1024);
            if (kMistake == Mistake::warps_differ && warp == 2) b = a;
            if (kMistake == Mistake::lanes_differ && lane == 7) b = a;
            if (kMistake == Mistake::warp_missing && warp == 3) continue;
            ptx::wgmma_bf16<64>(sums, a, b);
        }
        ptx::wgmma_commit();
        if (kMistake == Mistake::accumulator_touched) sums[0] = 1.0f;
        if (kMistake == Mistake::released_early) {
            if (lane == 0) ptx::mbarrier_arrive(&empty[s]);  // the product may still read that stage
        } else {
            ptx::wgmma_wait_group<1>();  // the tile before has been read
            if (tile > 0 && lane == 0) ptx::mbarrier_arrive(&empty[(tile - 1) % kStages]);
        }
    }
    if (kMistake != Mistake::no_wgmma_wait) ptx::wgmma_wait_group<0>();
    ptx::wgmma_registers(sums);
#pragma unroll
    for (int v = 0; v < 32; ++v)
        c[(warp * 16 + lane / 4 + v / 2 % 2 * 8) * 64 + v / 4 * 8 + lane % 4 * 2 + v % 2] = sums[v];
#endif
}

template <Mistake kMistake>
void pipeline_sm90() {
    constexpr int kK = kTiles * kBK90;
    Array<uint16_t> a(matrix(kK, 1)), b(matrix(kK, 2));
    Array<float> c(std::vector<float>(64 * 64));
    ptx::TensorLayout layout;
    layout.element = ptx::Element::bf16, layout.base = a.data(), layout.rank = 2,
    layout.swizzle = ptx::Swizzle::span128;
    layout.sizes[0] = kK, layout.sizes[1] = 64, layout.strides[1] = kK * 2, layout.box[0] = kBK90, layout.box[1] = 64;
    const ptx::TensorMap map_a = ptx::tensor_map(layout);
    layout.base = b.data();
    const ptx::TensorMap map_b = ptx::tensor_map(layout);
    gpu::launch<pipeline_sm90_kernel<kMistake>>(dim3(1), dim3(256), kStages * kStageBytes + 16 * kStages, kNoStream,
                                                map_a, map_b, c.data());
    check_product(c.read(), kK);
}
const Test sm90_test("pipeline_sm90", pipeline_sm90<Mistake::none>);
const Planted sm90_planted[] = {
    {"sm90_no_init", pipeline_sm90<Mistake::no_init>},
    {"sm90_released_early", pipeline_sm90<Mistake::released_early>},
    {"sm90_no_empty_wait", pipeline_sm90<Mistake::no_empty_wait>},
    {"sm90_no_full_wait", pipeline_sm90<Mistake::no_full_wait>},
    {"sm90_no_wgmma_wait", pipeline_sm90<Mistake::no_wgmma_wait>},
    {"sm90_no_wgmma_fence", pipeline_sm90<Mistake::no_wgmma_fence>},
    {"sm90_few_bytes", pipeline_sm90<Mistake::few_bytes>},
    {"sm90_many_bytes", pipeline_sm90<Mistake::many_bytes>},
    {"sm90_descriptor_out_of_range", pipeline_sm90<Mistake::descriptor_out_of_range>},
    {"sm90_warp_missing", pipeline_sm90<Mistake::warp_missing>},
    {"sm90_warps_differ", pipeline_sm90<Mistake::warps_differ>},
    {"sm90_lanes_differ", pipeline_sm90<Mistake::lanes_differ>},
    {"sm90_accumulator_touched", pipeline_sm90<Mistake::accumulator_touched>},
};

}  // namespace
