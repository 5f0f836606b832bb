// Gradients of attention on wgmma: one kernel source whose blocks own 64 queries (for dq) or 64 keys (for dk and dv) a
// consumer warpgroup, while a producer warpgroup brings the others by TMA. Probabilities are computed again from q, k and
// lse. Every sum has one owner, so that bits do not depend on the order of blocks; what that costs is that two products of
// seven are made twice.
//
// Owned rows with their two operands, and what comes by in columns, a stage each:
//   dq           queries  q, grad   keys     k, v                           dq += ds k
//   dk, dv       keys     k, v      queries  q with lse, grad with delta    dk += ds^T q,  dv += p^T grad
//
// Scores and their gradients come from products of two tiles and stay in registers, as first operand of what is added up.
// The products of a step go on while the next step's begin; its stages are given back then.
#pragma once
#include "attention_sm90.cuh"

namespace attention_sm90 {

struct BackwardMaps {
    ptx::TensorMap own_first, own_second, first, second;  // operands, of rows and of columns
    ptx::TensorMap lse, delta;                            // all rows of all heads as one; for dk and dv
    ptx::TensorMap of_first, of_second;                   // results: dq, or dk and dv
};

template <int kWidth, int kConsumers, int kColumns, bool kByKeys>
struct BackwardTile {
    static constexpr int kRows = 64 * kConsumers;
    static constexpr int kPart = 64 * kWidth * 2;  // a warpgroup's rows of one operand
    static constexpr int kStage = kColumns * kWidth * 2, kStageBox = kColumns * kRowBytes;
    static constexpr int kStatistics = kByKeys ? kAttentionSm90Statistics : 0;  // bytes a stage
    static constexpr int kRing = 2 * kConsumers * kPart;
    static constexpr int kProducerRegisters = kConsumers == 2 ? 40 : 32, kRegisters = kConsumers == 2 ? 232 : 160;
};

// A row's lse as what is subtracted from exponents of two. A row that sees nothing has -inf: no probability is then other
// than 0.
__device__ __forceinline__ float exponent_of(float lse) {
    return lse == -kInfinity<float> ? kInfinity<float> : lse * kLog2E;
}

template <class T, int kWidth, int kConsumers, int kColumns, bool kByKeys>
__global__ void __launch_bounds__(128 * (kConsumers + 1), 1)
attention_backward_sm90_kernel(const __grid_constant__ AttentionBackward a, const __grid_constant__ BackwardMaps maps,
                               const Order order, int stages) {
#ifdef FASTNET_SM90A
    using Mine = BackwardTile<kWidth, kConsumers, kColumns, kByKeys>;
    GPU_SHARED(shared);  // (kConsumers, 2, kPart) owned, later results; stages; their statistics; mbarriers
    unsigned char* const statistics = shared + Mine::kRing + stages * Mine::kStage;
    auto* const barriers = reinterpret_cast<uint64_t*>(statistics + stages * Mine::kStatistics);
    const AttentionProblem& p = a.problem;
    const Sequence sequence = reach_of(p, Sequence{0, 0, p.queries, 0, p.keys, 0, 0, 0});
    const int group = int(p.heads / p.key_heads), tiles = order.tiles_down * order.heads;
    const int rows = int(kByKeys ? p.keys : p.queries), own_heads = int(kByKeys ? p.key_heads : p.heads);
    Ring ring{barriers, barriers + stages, stages};
    uint64_t *const own_full = barriers + 2 * stages, *const own_empty = own_full + kConsumers;
    if (threadIdx.x == 0) {
        for (int c = 0; c < kConsumers; ++c) ptx::mbarrier_init(&own_full[c], 1), ptx::mbarrier_init(&own_empty[c], 4);
        ring.init(1, 4 * kConsumers);
    }
    __syncthreads();
    // The columns that some row of a tile sees: tiles of them from `begin` on, of every query head of the group. The same
    // on both sides.
    struct Range { int begin, per_head, steps; };
    const auto range_of = [&](int row0) {
        int begin = 0;
        int64_t end = p.queries;
        if constexpr (kByKeys) begin = int(min(sequence.query_begin(row0), p.queries)) / kColumns * kColumns;
        else end = sequence.key_end(min(int64_t(row0) + Mine::kRows, p.queries) - 1);
        const int per_head = int((end - begin + kColumns - 1) / kColumns);
        return Range{begin, per_head, per_head * (kByKeys ? group : 1)};
    };
    uint32_t phase = 0;  // of the barriers of owned operands

    if (threadIdx.x < 128) {
        ptx::setmaxnreg_dec<Mine::kProducerRegisters>();
        if (threadIdx.x == 0) {
#pragma unroll 1
            for (int round = 0, t; (t = tile_of_turn(round)) < tiles; ++round) {
                const auto [batch, head, row0] = place_of<Mine::kRows, !kByKeys>(t, order, own_heads);
                const Range range = range_of(row0);
#pragma unroll 1
                for (int c = 0; c < kConsumers; ++c) {
                    unsigned char* const own = shared + 2 * c * Mine::kPart;
                    ptx::mbarrier_wait(&own_empty[c], phase ^ 1);
                    ptx::mbarrier_arrive_expect_tx(&own_full[c], 2 * Mine::kPart);
                    load_tile<kWidth, kPartBytes>(own, &maps.own_first, &own_full[c], row0 + c * 64, head, batch);
                    load_tile<kWidth, kPartBytes>(own + Mine::kPart, &maps.own_second, &own_full[c], row0 + c * 64,
                                                  head, batch);
                }
                phase ^= 1;
#pragma unroll 1
                for (int item = 0; item < 2 * range.steps; ++item) {
                    const int step = item / 2, in_group = step / max(range.per_head, 1);
                    const int column0 = range.begin + (step - in_group * range.per_head) * kColumns;
                    const int of_head = kByKeys ? head * group + in_group : head / group;
                    const bool second = item % 2;
                    ring.wait_empty();
                    uint64_t* const full = &ring.full[ring.stage];
                    ptx::mbarrier_arrive_expect_tx(full, Mine::kStage + (kByKeys ? kColumns * 4 : 0));
                    load_tile<kWidth, Mine::kStageBox>(shared + Mine::kRing + ring.stage * Mine::kStage,
                                                       second ? &maps.second : &maps.first, full, column0, of_head,
                                                       batch);
                    if constexpr (kByKeys)
                        ptx::tma_load_1d(statistics + ring.stage * Mine::kStatistics, second ? &maps.delta : &maps.lse,
                                         full, (batch * int(p.heads) + of_head) * int(p.queries) + column0);
                    ring.advance();
                }
            }
        }
        __syncwarp();
        return;
    }

    ptx::setmaxnreg_inc<Mine::kRegisters>();
    const int consumer = int(threadIdx.x) / 128 - 1, thread = int(threadIdx.x) % 128, lane = thread % 32;
    unsigned char* const own = shared + 2 * consumer * Mine::kPart;
    const uint64_t own_first = rows_descriptor(own), own_second = rows_descriptor(own + Mine::kPart);
    const uint64_t by_rows = rows_descriptor(shared + Mine::kRing);
    const uint64_t by_columns = columns_descriptor<Mine::kStageBox>(shared + Mine::kRing);
    const auto at = [](int stage) { return uint64_t(stage) * (Mine::kStage / 16); };
#pragma unroll 1
    for (int round = 0, t; (t = tile_of_turn(round)) < tiles; ++round) {
        const auto [batch, head, tile_row] = place_of<Mine::kRows, !kByKeys>(t, order, own_heads);
        const Range range = range_of(tile_row);
        const int row0 = tile_row + consumer * 64;
        const auto row_here = [&] {
            const int where = ptx::opaque(thread);
            return row0 + where / 32 * 16 + where % 32 / 4;
        };
        // Columns [whole_begin, whole_end) are seen by every row of the warpgroup.
        const int whole_begin = kByKeys ? int(min(sequence.query_begin(row0 + 63), p.queries)) : 0;
        const int whole_end = kByKeys ? int(p.queries) : int(sequence.key_end(row0));
        float row_lse[2] = {}, row_delta[2] = {};  // of owned queries
        if constexpr (!kByKeys) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = row_here() + half * 8;
                const int64_t index = (int64_t(batch) * p.heads + head) * p.queries + row;
                if (row < rows) {
                    row_lse[half] = exponent_of(static_cast<const float*>(a.lse)[index]);
                    row_delta[half] = static_cast<const float*>(a.delta)[index];
                }
            }
        }
        float of_first[kWidth / 2] = {}, of_second[kByKeys ? kWidth / 2 : 1] = {};
        uint32_t weights[kByKeys ? kColumns / 16 : 1][4], of_scores[kColumns / 16][4];
        int first_before = -1, second_before = -1;  // stages whose products go on
        const auto release = [&] {
            if (first_before < 0) return;
            if constexpr (kByKeys) {  // statistics were read by ordinary loads
                ptx::fence_proxy_async();
                __syncwarp();
            }
            ring.release(first_before, 1), ring.release(second_before, 1);
        };

        ptx::mbarrier_wait(&own_full[consumer], phase);
        phase ^= 1;
        int column0 = range.begin;
#pragma unroll 1
        for (int step = 0; step < range.steps; ++step) {
            float x[kColumns / 2], ds[kColumns / 2];  // products, scores, then probabilities; their gradients
            const int first = ring.stage;
            ring.wait_full();
            ring.advance();
            ptx::wgmma_registers(x);
            ptx::wgmma_fence();
            row_products<T, kColumns, kWidth>(x, own_first, by_rows + at(first));
            ptx::wgmma_commit();
            ptx::wgmma_wait_group<1>();  // what the step before has added, whose operands' registers are free now
            release();
            const int second = ring.stage;
            ring.wait_full();
            ring.advance();
            ptx::wgmma_registers(ds);
            ptx::wgmma_fence();
            row_products<T, kColumns, kWidth>(ds, own_second, by_rows + at(second));
            ptx::wgmma_commit();

            ptx::wgmma_wait_group<1>();
            ptx::wgmma_registers(x);
            const float unit = float(p.scale) * kLog2E;
            const bool whole = column0 >= whole_begin && column0 + kColumns <= whole_end;
            const float* const column_lse = reinterpret_cast<const float*>(statistics + first * Mine::kStatistics);
#pragma unroll
            for (int v = 0; v < kColumns / 2; v += 4) {
                float lse[4] = {row_lse[0], row_lse[0], row_lse[1], row_lse[1]};
                if constexpr (kByKeys) {
                    const auto pair = load_vector<2>(column_lse + v * 2 + lane % 4 * 2);
                    lse[0] = lse[2] = exponent_of(pair[0]), lse[1] = lse[3] = exponent_of(pair[1]);
                }
#pragma unroll
                for (int e = 0; e < 4; ++e) x[v + e] = ptx::ex2_approx_ftz(fmaf(x[v + e], unit, -lse[e]));
            }
            if (!whole) {
                const int row = row_here();
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    int from = 0, to = int(p.queries);
                    if constexpr (kByKeys) from = int(min(sequence.query_begin(row + half * 8), p.queries));
                    else to = int(sequence.key_end(row + half * 8));
#pragma unroll
                    for (int v = half * 2; v < kColumns / 2; v += 4)
#pragma unroll
                        for (int e = 0; e < 2; ++e) {
                            const int column = column0 + v / 4 * 8 + lane % 4 * 2 + e;
                            if (column < from || column >= to) x[v + e] = 0;
                        }
                }
            }
            // Nothing is in flight while first operands are made in registers: the assembler would put a wait after every
            // product instead.
            ptx::wgmma_wait_group<0>();
            ptx::wgmma_registers(ds);
            if constexpr (kByKeys) round_to<T, kColumns>(weights, x);
            const float* const column_delta = reinterpret_cast<const float*>(statistics + second * Mine::kStatistics);
#pragma unroll
            for (int v = 0; v < kColumns / 2; v += 4) {
                float delta[4] = {row_delta[0], row_delta[0], row_delta[1], row_delta[1]};
                if constexpr (kByKeys) {
                    const auto pair = load_vector<2>(column_delta + v * 2 + lane % 4 * 2);
                    delta[0] = delta[2] = pair[0], delta[1] = delta[3] = pair[1];
                }
#pragma unroll
                for (int e = 0; e < 4; ++e) ds[v + e] = x[v + e] * (ds[v + e] - delta[e]);
            }
            if (kByKeys && column0 + kColumns > p.queries) {  // another head's delta, which may be NaN
#pragma unroll
                for (int v = 0; v < kColumns / 2; ++v)
                    if (column0 + v / 4 * 8 + lane % 4 * 2 + v % 2 >= p.queries) ds[v] = 0;
            }
            round_to<T, kColumns>(of_scores, ds);
            wgmma_registers(of_scores), ptx::wgmma_registers(of_first);
            if constexpr (kByKeys) wgmma_registers(weights), ptx::wgmma_registers(of_second);
            ptx::wgmma_fence();
            if constexpr (kByKeys)
                add_products<T, kColumns, kWidth>(of_second, weights, by_columns + at(second));
            add_products<T, kColumns, kWidth>(of_first, of_scores, by_columns + at(first));
            ptx::wgmma_commit();
            first_before = first, second_before = second;
            column0 += kColumns;
            if (kByKeys && (step + 1) % range.per_head == 0) column0 = range.begin;
        }
        ptx::wgmma_wait_group<0>();
        ptx::wgmma_registers(of_first);
        if constexpr (kByKeys) ptx::wgmma_registers(of_second);
        release();

        const float scale = float(p.scale), scales[2] = {scale, scale}, ones[2] = {1, 1};
        store_rows<T, kWidth>(&maps.of_first, of_first, scales, own, thread, consumer + 1, row0, rows, int(p.d), head,
                              batch);
        if constexpr (kByKeys)
            store_rows<T, kWidth>(&maps.of_second, of_second, ones, own + Mine::kPart, thread, consumer + 1, row0, rows,
                                  int(p.dv), head, batch);
        if (thread == 0) ptx::tma_store_wait_read<0>();
        if (lane == 0) ptx::mbarrier_arrive(&own_empty[consumer]);
    }
    __syncwarp();
#endif
}

// All rows of all heads of a statistic, `count` of them at a time.
inline ptx::TensorMap map_of_statistic(const void* data, int64_t rows, int count) {
    ptx::TensorLayout t;
    t.element = ptx::Element::fp32, t.base = data, t.rank = 1;
    t.sizes[0] = uint64_t(rows), t.box[0] = uint32_t(count);
    return ptx::tensor_map(t);
}

template <class T, bool kByKeys, int kIndex>
void launch_backward(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    constexpr AttentionSm90Tile kTile = (kByKeys ? kAttentionSm90OfKeys : kAttentionSm90OfQueries)[kIndex];
    const AttentionProblem& p = a.problem;
    const auto queries = [&](const void* data, const AttentionStrides& s, int64_t columns, int rows) {
        return map_of<T>(data, s, p.batch, p.heads, p.queries, columns, rows);
    };
    const auto keys = [&](const void* data, const AttentionStrides& s, int64_t columns, int rows) {
        return map_of<T>(data, s, p.batch, p.key_heads, p.keys, columns, rows);
    };
    BackwardMaps maps{};
    if constexpr (kByKeys) {
        maps.own_first = keys(p.k, p.k_strides, p.d, 64), maps.own_second = keys(p.v, p.v_strides, p.dv, 64);
        maps.first = queries(p.q, p.q_strides, p.d, kTile.columns);
        maps.second = queries(a.grad, a.grad_strides, p.dv, kTile.columns);
        const int64_t all = p.batch * p.heads * p.queries;
        maps.lse = map_of_statistic(a.lse, all, kTile.columns);
        maps.delta = map_of_statistic(a.delta, all, kTile.columns);
        maps.of_first = keys(a.dk, a.dk_strides, p.d, 64), maps.of_second = keys(a.dv, a.dv_strides, p.dv, 64);
    } else {
        maps.own_first = queries(p.q, p.q_strides, p.d, 64);
        maps.own_second = queries(a.grad, a.grad_strides, p.dv, 64);
        maps.first = keys(p.k, p.k_strides, p.d, kTile.columns);
        maps.second = keys(p.v, p.v_strides, p.dv, kTile.columns);
        maps.of_first = queries(a.dq, a.dq_strides, p.d, 64);
    }
    const int64_t rows = kByKeys ? p.keys : p.queries, heads = p.batch * (kByKeys ? p.key_heads : p.heads);
    const int64_t tiles_down = (rows + kTile.rows() - 1) / kTile.rows();
    const int64_t together = attention_sm90_heads_together(kByKeys ? p.queries * p.heads / p.key_heads : p.keys, p.d,
                                                           p.dv, kByKeys ? 1 : p.heads / p.key_heads,
                                                           p.causal == AttentionCausal::none, current_device());
    const Order order{int(tiles_down), int(heads), int(std::min(together, heads))};
    gpu::launch<attention_backward_sm90_kernel<T, kTile.width, kTile.consumers, kTile.columns, kByKeys>>(
        dim3(unsigned(std::min(heads * tiles_down, int64_t(config.max_blocks)))), dim3(128 * (kTile.consumers + 1)),
        unsigned(attention_sm90_backward_bytes(kTile, config.stages)), stream, a, maps, order, config.stages);
}

template <class T>
void launch_backward(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    if (std::max(a.problem.d, a.problem.dv) <= 64) {
        launch_backward<T, false, 0>(a, config, stream);
        launch_backward<T, true, 0>(a, config, stream);
    } else {
        launch_backward<T, false, 1>(a, config, stream);
        launch_backward<T, true, 1>(a, config, stream);
    }
}

}  // namespace attention_sm90
