// A matrix product by pairs of blocks, right and with one mistake each: what the emulator is there to notice.
// C = A B^T, A (128, K), B (64, K) bf16 row-major, C (128, 64) fp32; K = 6 tiles, more than the stages. Each block has
// 64 rows of A and loads half of B for both. C leaves through shared memory in two halves, by TMA.
#include "cases.h"

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SM90A 1
#endif

namespace {

constexpr int kStages = 3, kTiles = 6, kBK = 64, kTileBytes = 64 * kBK * 2, kStageBytes = 2 * kTileBytes;
constexpr int kBuffer = kStages * kStageBytes, kBarriers = kBuffer + 64 * 128, kShared = kBarriers + 16 * kStages;

enum class Mistake {
    none,
    no_cluster_sync,
    no_final_sync,
    peer_not_awaited,
    peer_not_told,
    released_early,
    wrong_phase,
    wrong_mask,
    mask_beyond,
    half_expected,
    no_store_fence,
    buffer_reused,
    no_store_wait,
    no_store_commit
};

template <Mistake kMistake>
__global__ void __launch_bounds__(256, 1)
cluster_pipeline_kernel(const __grid_constant__ ptx::TensorMap map_a, const __grid_constant__ ptx::TensorMap map_b,
                        const __grid_constant__ ptx::TensorMap map_c) {
#ifdef SM90A
    GPU_SHARED(shared);
    auto* full = reinterpret_cast<uint64_t*>(shared + kBarriers);
    uint64_t* empty = full + kStages;
    const int t = int(threadIdx.x), lane = t % 32, warp = t / 32 % 4, rank = int(ptx::cluster_rank());
    if (t == 0) {
        for (int s = 0; s < kStages; ++s) {
            ptx::mbarrier_init(&full[s], 1);
            ptx::mbarrier_init(&empty[s],
                               kMistake == Mistake::peer_not_awaited || kMistake == Mistake::peer_not_told ? 4 : 8);
        }
        ptx::fence_mbarrier_init();
    }
    if (kMistake == Mistake::no_cluster_sync) __syncthreads();
    else ptx::cluster_sync();
    if (t >= 128) {  // producer
        if (t == 128)
            for (int tile = 0; tile < kTiles; ++tile) {
                const int s = tile % kStages;
                unsigned char* to = shared + s * kStageBytes;
                ptx::mbarrier_wait(&empty[s],
                                   uint32_t(tile / kStages + (kMistake == Mistake::wrong_phase ? 0 : 1)) & 1);
                ptx::mbarrier_arrive_expect_tx(
                    &full[s], kMistake == Mistake::half_expected ? kTileBytes + kTileBytes / 2 : kStageBytes);
                ptx::tma_load_2d(to, &map_a, &full[s], tile * kBK, rank * 64);
                ptx::tma_load_2d_multicast(to + kTileBytes + rank * kTileBytes / 2, &map_b, &full[s],
                                           kMistake == Mistake::wrong_mask    ? uint16_t(1 << rank)
                                           : kMistake == Mistake::mask_beyond ? uint16_t(7)
                                                                              : uint16_t(3),
                                           tile * kBK, rank * 32);
            }
        __syncwarp();
    } else {
        float sums[32] = {};
        ptx::wgmma_registers(sums);
        auto release = [&](int s) {
            if (lane != 0) return;
            if (kMistake == Mistake::peer_not_told) return ptx::mbarrier_arrive(&empty[s]);
            if (kMistake == Mistake::peer_not_awaited && rank == 0) {  // the other block may still read the stage
                ptx::mbarrier_arrive_cluster(&empty[s], 0);
                ptx::mbarrier_arrive_cluster(&empty[s], 1);
            }
            if (kMistake == Mistake::peer_not_awaited) return;
            ptx::mbarrier_arrive_cluster(&empty[s], 0);
            ptx::mbarrier_arrive_cluster(&empty[s], 1);
        };
        for (int tile = 0; tile < kTiles; ++tile) {
            const int s = tile % kStages;
            ptx::mbarrier_wait(&full[s], uint32_t(tile / kStages) & 1);
            ptx::wgmma_fence();
#pragma unroll
            for (int k = 0; k < kBK; k += 16) {
                const uint32_t at = ptx::shared_offset(shared + s * kStageBytes) + uint32_t(k) * 2;
                ptx::wgmma_bf16<64>(sums, ptx::k_major_descriptor<ptx::Swizzle::span128>(at),
                                    ptx::k_major_descriptor<ptx::Swizzle::span128>(at + kTileBytes));
            }
            ptx::wgmma_commit();
            if (kMistake == Mistake::released_early) {
                release(s);  // the product may still read that stage
            } else {
                ptx::wgmma_wait_group<1>();
                if (tile > 0) release((tile - 1) % kStages);
            }
        }
        ptx::wgmma_wait_group<0>();
        ptx::wgmma_registers(sums);
#pragma unroll
        for (int half = 0; half < 2; ++half) {  // 32 columns: one span of floats
#pragma unroll
            for (int v = 0; v < 16; v += 2) {
                const int row = warp * 16 + lane / 4 + v / 2 % 2 * 8, column = v / 4 * 8 + lane % 4 * 2;
                *reinterpret_cast<float2*>(shared + kBuffer + (row * 128 + (column * 4 ^ row % 8 * 16))) =
                    make_float2(sums[half * 16 + v], sums[half * 16 + v + 1]);
            }
            if (kMistake != Mistake::no_store_fence) ptx::fence_proxy_async();
            ptx::bar_sync(1, 128);
            if (t == 0) {
                ptx::tma_store_2d(&map_c, shared + kBuffer, half * 32, rank * 64);
                if (kMistake != Mistake::no_store_commit) ptx::tma_store_commit();
                if (half == 1 ? kMistake != Mistake::no_store_wait : kMistake != Mistake::buffer_reused)
                    ptx::tma_store_wait_read<0>();
            }
            ptx::bar_sync(1, 128);  // the buffer may be overwritten
        }
    }
    if (kMistake != Mistake::no_final_sync)
        ptx::cluster_sync();  // a block must not end while the other may arrive at it
#endif
}

template <Mistake kMistake>
void pipeline() {
    constexpr int kK = kTiles * kBK;
    auto matrix = [](int rows, int seed) {
        std::vector<uint16_t> m(std::size_t(rows * kK));
        for (std::size_t i = 0; i < m.size(); ++i) m[i] = bits16(small_integer(int(i), seed), true);
        return m;
    };
    Array<uint16_t> a(matrix(128, 1)), b(matrix(64, 2));
    Array<float> c(std::vector<float>(128 * 64));
    ptx::TensorLayout layout;
    layout.element = ptx::Element::bf16, layout.rank = 2, layout.swizzle = ptx::Swizzle::span128;
    layout.sizes[0] = kK, layout.strides[1] = kK * 2, layout.box[0] = kBK;
    layout.base = a.data(), layout.sizes[1] = 128, layout.box[1] = 64;
    const ptx::TensorMap map_a = ptx::tensor_map(layout);
    layout.base = b.data(), layout.sizes[1] = 64, layout.box[1] = 32;
    const ptx::TensorMap map_b = ptx::tensor_map(layout);
    layout.element = ptx::Element::fp32, layout.base = c.data(), layout.strides[1] = 64 * 4;
    layout.sizes[0] = 64, layout.sizes[1] = 128, layout.box[0] = 32, layout.box[1] = 64;
    gpu::launch_cluster<cluster_pipeline_kernel<kMistake>>(dim3(2), dim3(2), dim3(256), kShared, kNoStream, map_a,
                                                           map_b, ptx::tensor_map(layout));
    std::vector<float> want(128 * 64);
    for (int m = 0; m < 128; ++m)
        for (int n = 0; n < 64; ++n) {
            int sum = 0;
            for (int i = 0; i < kK; ++i) sum += small_integer(m * kK + i, 1) * small_integer(n * kK + i, 2);
            want[std::size_t(m * 64 + n)] = float(sum);
        }
    expect_equal(c.read(), want, "c");
}
const Test cluster_test("cluster_pipeline", pipeline<Mistake::none>);
const Planted cluster_planted[] = {
    {"cluster_no_cluster_sync", pipeline<Mistake::no_cluster_sync>},
    {"cluster_no_final_sync", pipeline<Mistake::no_final_sync>},
    {"cluster_peer_not_awaited", pipeline<Mistake::peer_not_awaited>},
    {"cluster_peer_not_told", pipeline<Mistake::peer_not_told>},
    {"cluster_released_early", pipeline<Mistake::released_early>},
    {"cluster_wrong_phase", pipeline<Mistake::wrong_phase>},
    {"cluster_wrong_mask", pipeline<Mistake::wrong_mask>},
    {"cluster_mask_beyond", pipeline<Mistake::mask_beyond>},
    {"cluster_half_expected", pipeline<Mistake::half_expected>},
    {"cluster_no_store_fence", pipeline<Mistake::no_store_fence>},
    {"cluster_buffer_reused", pipeline<Mistake::buffer_reused>},
    {"cluster_no_store_wait", pipeline<Mistake::no_store_wait>},
    {"cluster_no_store_commit", pipeline<Mistake::no_store_commit>},
};

}  // namespace
