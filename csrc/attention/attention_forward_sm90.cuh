// Forward attention on wgmma: a producer warpgroup brings tiles by TMA, two or three consumer warpgroups have 64 queries
// each.
//
// A consumer issues the product of its queries and the next keys, then that of its probabilities and the values before
// them, and finds the maxima and exponentials of the new scores while the second product goes on. Keys and values come
// through one ring in that order: k0, k1, v0, k2, v1, .... Between warpgroups, turns keep the tensor cores with one of them
// while the others are at their softmax.
//
// Blocks are as many as run at once, and take tiles in turn, those that see most keys first.
#pragma once
#include "attention_features_sm90.cuh"

namespace attention_sm90 {

// The tiles of queries and how their shared memory is divided.
template <int kWidth, int kConsumers, int kColumns, bool kOwnStaging>
struct ForwardTile {
    static constexpr int kThreads = 128 * (kConsumers + 1), kRows = 64 * kConsumers;
    static constexpr int kPart = 64 * kWidth * 2;  // a warpgroup's queries, or results
    static constexpr int kStage = kColumns * kWidth * 2, kStageBox = kColumns * kRowBytes;
    static constexpr int kRing = kRows * kWidth * 2 * (kOwnStaging ? 2 : 1);
    static constexpr bool kTakesTurns = kWidth <= 128;  // beyond, its sums leave no room for a second tile of scores
    static constexpr int kProducerRegisters = 32, kRegisters = kConsumers == 2 ? 240 : 160;
};

// What comes of one row of queries in tiles: of a warpgroup's 64, this thread's two.
template <int kWidth, int kColumns>
struct OnlineSoftmax {
    float high[2] = {-kInfinity<float>, -kInfinity<float>};  // maxima times log2(e)
    float total[2] = {};                                     // of this thread's columns

    // Scores become exponentials, and factor what the sums so far are to be multiplied by. unit: of scores, to be
    // exponents of two.
    __device__ __forceinline__ void step(float (&s)[kColumns / 2], float unit, float (&factor)[2]) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float top = -kInfinity<float>;  // fmaxf passes over NaN
#pragma unroll
            for (int v = half * 2; v < kColumns / 2; v += 4) top = fmaxf(top, fmaxf(s[v], s[v + 1]));
            top = fmaxf(top, exchange(top, 1));
            top = fmaxf(top, exchange(top, 2));
            top = fmaxf(high[half], top * unit);
            const float base = top == -kInfinity<float> ? 0.0f : top;  // nothing seen yet: all exponents are -inf
            factor[half] = ptx::ex2_approx_ftz(high[half] - base);
            high[half] = top;
            float sum = 0;
#pragma unroll
            for (int v = half * 2; v < kColumns / 2; v += 4)
#pragma unroll
                for (int e = 0; e < 2; ++e) sum += s[v + e] = ptx::ex2_approx_ftz(fmaf(s[v + e], unit, -base));
            total[half] = fmaf(total[half], factor[half], sum);
        }
    }
};

template <int kWidth>
__device__ __forceinline__ void rescale_rows(float (&sums)[kWidth / 2], const float (&factor)[2]) {
#pragma unroll
    for (int v = 0; v < kWidth / 2; ++v) sums[v] *= factor[v / 2 % 2];
}

// kFeatured: scores are more than scaled products (is_featured), or there is dropout, or sequences are packed.
template <class T, int kWidth, int kConsumers, int kColumns, bool kOwnStaging, bool kFeatured>
__global__ void __launch_bounds__(128 * (kConsumers + 1), 1)
attention_sm90_kernel(const __grid_constant__ AttentionForward a, const __grid_constant__ ptx::TensorMap map_q,
                      const __grid_constant__ ptx::TensorMap map_k, const __grid_constant__ ptx::TensorMap map_v,
                      const __grid_constant__ ptx::TensorMap map_out, const Order order, int stages) {
#ifdef FASTNET_SM90A
    using Mine = ForwardTile<kWidth, kConsumers, kColumns, kOwnStaging>;
    GPU_SHARED(
        shared);  // (kConsumers, kPart) queries, again for results if kOwnStaging; (stages, kStage); mbarriers; reaches
    const AttentionProblem& p = a.problem;
    const int group = int(p.heads / p.key_heads), tiles = order.tiles_down * order.heads;
    auto* const barriers = reinterpret_cast<uint64_t*>(shared + Mine::kRing + stages * Mine::kStage);
    Ring ring{barriers, barriers + stages, stages};
    uint64_t *const queries_full = barriers + 2 * stages, *const queries_empty = queries_full + kConsumers;
    auto* const reaches = reinterpret_cast<Reach*>(queries_empty + kConsumers);  // of warps, if kFeatured
    if (threadIdx.x == 0) {
        for (int c = 0; c < kConsumers; ++c)
            ptx::mbarrier_init(&queries_full[c], 1), ptx::mbarrier_init(&queries_empty[c], 4);
        ring.init(1, 4 * kConsumers);
    }
    __syncthreads();
    const auto reach_at = [&](int batch) {
        if constexpr (kFeatured) return Reach(sequence_of(p, batch));
        else return Reach(reach_of(p, Sequence{0, 0, p.queries, 0, p.keys, 0, 0, 0}));
    };
    // Tiles of keys that some query of a tile sees, from column `begin` on. The same on both sides.
    struct Range { int begin, end; };
    const auto range_of = [&](const Reach& reach, int row0) {
        const int begin = reach.key_begin(row0) / kColumns * kColumns;
        const int end = reach.key_end(min(row0 + Mine::kRows, reach.queries) - 1);
        return Range{begin, end};
    };
    uint32_t phase = 0;  // of the barriers of queries

    if (threadIdx.x < 128) {
        ptx::setmaxnreg_dec<Mine::kProducerRegisters>();
        if (threadIdx.x == 0) {
#pragma unroll 1
            for (int round = 0, t; (t = tile_of_turn(round)) < tiles; ++round) {
                const auto [batch, head, row0] = place_of<Mine::kRows, true>(t, order, int(p.heads));
                const Reach reach = reach_at(batch);
                if (row0 >= reach.queries) continue;  // of a shorter sequence than the longest
                const Range range = range_of(reach, row0);
                const int items = 2 * (max(0, range.end - range.begin + kColumns - 1) / kColumns);
#pragma unroll 1
                for (int c = 0; c < kConsumers; ++c) {
                    ptx::mbarrier_wait(&queries_empty[c], phase ^ 1);
                    ptx::mbarrier_arrive_expect_tx(&queries_full[c], Mine::kPart);
                    load_tile<kWidth, kPartBytes>(shared + c * Mine::kPart, &map_q, &queries_full[c],
                                                  box_of_queries<64>(p, reach, batch, head, row0 + c * 64));
                }
                phase ^= 1;
#pragma unroll 1
                for (int item = 0; item < items; ++item) {
                    // k0, k1, v0, k2, v1, ..., the last values
                    const bool values = item == items - 1 || (item > 0 && item % 2 == 0);
                    const int step = values ? (item - 1) / 2 : (item + 1) / 2;
                    ring.wait_empty();
                    uint64_t* const full = &ring.full[ring.stage];
                    ptx::mbarrier_arrive_expect_tx(full, Mine::kStage);
                    load_tile<kWidth, Mine::kStageBox>(
                        shared + Mine::kRing + ring.stage * Mine::kStage, values ? &map_v : &map_k, full,
                        box_of_keys<kColumns>(p, reach, batch, head / group, range.begin + step * kColumns));
                    ring.advance();
                }
            }
        }
        __syncwarp();
    } else {
        ptx::setmaxnreg_inc<Mine::kRegisters>();
        const int consumer = int(threadIdx.x) / 128 - 1, thread = int(threadIdx.x) % 128, lane = thread % 32;
        unsigned char* const own = shared + consumer * Mine::kPart;
        const uint64_t queries = rows_descriptor(own), keys = rows_descriptor(shared + Mine::kRing);
        const uint64_t values = columns_descriptor<Mine::kStageBox>(shared + Mine::kRing);
        // A warp keeps what its tile's sequence reaches in shared memory: fields are read as they are asked for, rather than
        // held in registers. Where all sequences are alike, it is in the arguments.
        const auto reach_here = [&] {
            if constexpr (kFeatured) return reaches[ptx::opaque(int(threadIdx.x)) / 32 - 4];
            else return reach_at(0);
        };
        const Turns<kConsumers> turns{consumer};
        if constexpr (Mine::kTakesTurns) turns.begin();
        const bool negative = !(p.scale > 0);  // the greatest product is then not the greatest score
#pragma unroll 1
        for (int round = 0; tile_of_turn(round) < tiles; ++round) {
            // Computed where it is asked for, not held in registers; so is a thread's first row.
            const auto place_here = [&] {
                return place_of<Mine::kRows, true>(tile_of_turn(ptx::opaque(round)), order, int(p.heads));
            };
            const int tile_row = place_here().row0, row0 = tile_row + consumer * 64;
            if constexpr (kFeatured) {
                __syncwarp();  // the tile before is done with
                if (lane == 0) reaches[int(threadIdx.x) / 32 - 4] = reach_at(place_here().batch);
                __syncwarp();
                if (tile_row >= reach_here().queries) continue;
            }
            const Range range = range_of(reach_here(), tile_row);
            // Keys [whole_begin, whole_end) are seen by every row.
            const int whole_begin = reach_here().key_begin(row0 + 63), whole_end = reach_here().key_end(row0);
            const auto row_here = [&] {
                const int at = ptx::opaque(thread);
                return row0 + at / 32 * 16 + at % 32 / 4;
            };

            OnlineSoftmax<kWidth, kColumns> softmax;
            float out[kWidth / 2] = {};
            uint32_t weights[kColumns / 16][4];  // probabilities, over their sums to be
            // Scores become exponentials.
            const auto softmax_of = [&](float (&scores)[kColumns / 2], int column0, float (&factor)[2]) {
                float unit = float(p.scale) * kLog2E;
                if (kFeatured && is_featured(p)) {
                    const auto [batch, head, _] = place_here();
                    finish_scores<T>(scores, p, batch, head, reach_here().shift,
                                     {row_here(), column0 + lane % 4 * 2, int(p.queries), int(p.keys)});
                    unit = kLog2E;
                } else if (negative) {
#pragma unroll
                    for (int v = 0; v < kColumns / 2; ++v) scores[v] *= unit;
                    unit = 1;
                }
                if (column0 < whole_begin || column0 + kColumns > whole_end) {
                    const int row = row_here(), column = column0 + lane % 4 * 2;
                    const Reach reach = reach_here();
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const int from = reach.key_begin(row + half * 8) - column;
                        const int to = reach.key_end(row + half * 8) - column;
#pragma unroll
                        for (int v = half * 2; v < kColumns / 2; v += 4)
#pragma unroll
                            for (int e = 0; e < 2; ++e)
                                if (v / 4 * 8 + e < from || v / 4 * 8 + e >= to) scores[v + e] = -kInfinity<float>;
                    }
                }
                softmax.step(scores, unit, factor);
                if (kFeatured && p.threshold != 0) {
                    const auto [batch, head, _] = place_here();
                    const auto bits = kept<kColumns / 8, false>(p, batch, head, row_here() - lane / 4, column0);
                    const float scale = float(p.keep_scale);
#pragma unroll
                    for (int v = 0; v < kColumns / 2; ++v) scores[v] *= bits >> v & 1 ? scale : 0.0f;
                }
            };
            const auto at = [&](int stage) { return uint64_t(stage) * (Mine::kStage / 16); };
            ptx::mbarrier_wait(&queries_full[consumer], phase);
            phase ^= 1;
            if (range.begin < range.end) {
                float scores[kColumns / 2], factor[2];
                int values_stage = -1;  // of the products that go on
                const auto score = [&] {
                    ring.wait_full();
                    ptx::wgmma_registers(scores);
                    ptx::wgmma_fence();
                    row_products<T, kColumns, kWidth>(scores, queries, keys + at(ring.stage));
                    ptx::wgmma_commit();
                    ring.advance();
                };
                const auto add_values = [&] {
                    values_stage = ring.stage;
                    ring.wait_full();
                    wgmma_registers(weights), ptx::wgmma_registers(out);
                    ptx::wgmma_fence();
                    add_products<T, kColumns, kWidth>(out, weights, values + at(values_stage));
                    ptx::wgmma_commit();
                    ring.advance();
                };
                // The products that go on end, and the softmax of what came after them is put to use.
                const auto settle = [&] {
                    ptx::wgmma_wait_group<0>();
                    ptx::wgmma_registers(out);
                    if (values_stage >= 0) ring.release(values_stage, 1);
                    round_to<T, kColumns>(weights, scores);
                    rescale_rows<kWidth>(out, factor);
                };
                int keys_stage = ring.stage;
                score();
                ptx::wgmma_wait_group<0>();
                ptx::wgmma_registers(scores);
                ring.release(keys_stage, 1);
                softmax_of(scores, range.begin, factor);
                // A round of the loop ends in a softmax, and the next begins with the wait: in one run of instructions the
                // assembler would move the wait to before the softmax.
#pragma unroll 1
                for (int column0 = range.begin + kColumns; column0 < range.end; column0 += kColumns) {
                    settle();
                    if constexpr (Mine::kTakesTurns) turns.take();
                    keys_stage = ring.stage;
                    score();
                    add_values();
                    if constexpr (Mine::kTakesTurns) turns.pass();
                    ptx::wgmma_wait_group<1>();
                    ptx::wgmma_registers(scores);
                    ring.release(keys_stage, 1);
                    softmax_of(scores, column0, factor);
                }
                settle();
                add_values();
                ptx::wgmma_wait_group<0>();
                ptx::wgmma_registers(out);
                ring.release(values_stage, 1);
            }
            if (kOwnStaging) {
                __syncwarp();  // without keys, nothing else had all lanes see the queries before they may be overwritten
                if (lane == 0) ptx::mbarrier_arrive(&queries_empty[consumer]);
            }

            const auto [batch, head, _] = place_here();
            const int row = row_here();
            const Reach reach = reach_here();
            const int64_t statistics = first_statistic(p, reach, batch, head);
            float factor[2];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float sum = warp_reduce(softmax.total[half], 4, Add());
                factor[half] = sum == 0 ? 0.0f : 1 / sum;
                if (lane % 4 == 0 && row + half * 8 < reach.queries)
                    static_cast<float*>(a.lse)[statistics + row + half * 8] =
                        sum == 0 ? -kInfinity<float> : fmaf(softmax.high[half], kLn2, logarithm(sum));
            }
            store_rows<T, kWidth>(&map_out, out, factor, own + (kOwnStaging ? kConsumers * Mine::kPart : 0), thread,
                                  consumer + 1, row0 < reach.queries, int(p.dv),
                                  box_of_queries<64>(p, reach, batch, head, row0));
            if (!kOwnStaging) {
                if (thread == 0) ptx::tma_store_wait_read<0>();
                if (lane == 0) ptx::mbarrier_arrive(&queries_empty[consumer]);
            }
        }
        if constexpr (Mine::kTakesTurns) turns.end();
        if (thread == 0) ptx::tma_store_wait_read<0>();
        __syncwarp();
    }
#endif
}

template <class T, int kIndex, bool kFeatured>
void launch(const AttentionForward& a, const AttentionConfig& config, cudaStream_t stream) {
    constexpr AttentionSm90Tile kTile = (kFeatured ? kAttentionSm90ForwardFeatured : kAttentionSm90Forward)[kIndex];
    const AttentionProblem& p = a.problem;
    const int64_t heads = p.batch * p.heads, tiles_down = (p.queries + kTile.rows() - 1) / kTile.rows();
    const int64_t together = attention_sm90_heads_together(p.keys, p.d, p.dv, p.heads / p.key_heads,
                                                           p.causal == AttentionCausal::none, current_device());
    const Order order{int(tiles_down), int(heads), int(std::min(together, heads))};
    const auto q = map_of_queries<T>(p, p.q, p.q_strides, p.d, 64);
    const auto k = map_of_keys<T>(p, p.k, p.k_strides, p.d, kTile.columns);
    const auto v = map_of_keys<T>(p, p.v, p.v_strides, p.dv, kTile.columns);
    const auto out = map_of_queries<T>(p, a.out, a.out_strides, p.dv, 64);
    gpu::launch<attention_sm90_kernel<T, kTile.width, kTile.consumers, kTile.columns, kTile.own_staging, kFeatured>>(
        dim3(unsigned(std::min(heads * tiles_down, int64_t(config.max_blocks)))), dim3(128 * (kTile.consumers + 1)),
        unsigned(attention_sm90_forward_bytes(kTile, config.stages)), stream, a, q, k, v, out, order, config.stages);
}

template <class T, int kIndex>
void launch(const AttentionForward& a, const AttentionConfig& config, cudaStream_t stream) {
    const AttentionProblem& p = a.problem;
    if (is_featured(p) || p.threshold != 0 || p.features.q_starts) launch<T, kIndex, true>(a, config, stream);
    else launch<T, kIndex, false>(a, config, stream);
}

template <class T>
void launch(const AttentionForward& a, const AttentionConfig& config, cudaStream_t stream) {
    switch (attention_sm90_index(a.problem.d, a.problem.dv)) {
        case 0: return launch<T, 0>(a, config, stream);
        case 1: return launch<T, 1>(a, config, stream);
        default: return launch<T, 2>(a, config, stream);
    }
}

}  // namespace attention_sm90
