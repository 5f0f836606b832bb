// Gradients of attention on wgmma: one kernel source whose blocks own 64 queries (for dq) or 64 keys (for dk and dv) a
// consumer warpgroup, while a producer warpgroup brings the others by TMA. Probabilities are computed again from q, k and
// lse. Every sum has one owner, so that bits do not depend on the order of blocks; what that costs is that two products of
// seven are made twice.
//
// Owned rows with their two operands, and what comes by in columns, a stage each:
//   dq           queries  q, grad   keys     k, v                           dq += ds k
//   dk, dv       keys     k, v      queries  q with lse, grad with delta    dk += ds^T q,  dv += p^T grad
// dk and dv come from a pass each where their sums do not fit into registers beside each other.
//
// Scores and their gradients come from products of two tiles and stay in registers, as first operand of what is added up.
// The products of a step go on while the next step's begin; its stages are given back then.
#pragma once
#include "attention_features_sm90.cuh"

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

// Zeros for the gradients of scores that nobody sees: of a warpgroup's 64 rows, columns first .. last - 1.
__device__ __forceinline__ void
clear_gradients(float* ds, int row0, int rows, int64_t keys, int first, int last, int thread) {
    for (int row = row0 + thread / 32; row < min(row0 + 64, rows); row += 4)
        for (int column = first + thread % 32; column < last; column += 32) ds[row * keys + column] = 0;
}

// kFeatured: scores are more than scaled products (is_featured), or there is dropout.
template <class T, int kWidth, int kConsumers, int kColumns, Gradient kOf, bool kFeatured>
__global__ void __launch_bounds__(128 * (kConsumers + 1), 1)
attention_backward_sm90_kernel(const __grid_constant__ AttentionBackward a, const __grid_constant__ BackwardMaps maps,
                               const Order order, int stages) {
#ifdef FASTNET_SM90A
    constexpr bool kByKeys = kOf != Gradient::q, kOfScores = kOf != Gradient::v;
    constexpr bool kOfValues = kOf == Gradient::k_and_v || kOf == Gradient::v;
    using Mine = BackwardTile<kWidth, kConsumers, kColumns, kByKeys>;
    GPU_SHARED(shared);  // (kConsumers, 2, kPart) owned, later results; stages; their statistics; mbarriers
    unsigned char* const statistics = shared + Mine::kRing + stages * Mine::kStage;
    auto* const barriers = reinterpret_cast<uint64_t*>(statistics + stages * Mine::kStatistics);
    const AttentionProblem& p = a.problem;
    const int group = int(p.heads / p.key_heads), tiles = order.tiles_down * order.heads;
    const int own_heads = int(kByKeys ? p.key_heads : p.heads);
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
    const auto reach_at = [&](int batch) { return Reach(sequence_of(p, batch)); };
    const auto range_of = [&](const Reach& reach, int row0) {
        const int last = min(row0 + Mine::kRows, kByKeys ? reach.keys : reach.queries) - 1;
        const int begin = (kByKeys ? reach.query_begin(row0) : reach.key_begin(row0)) / kColumns * kColumns;
        const int end = kByKeys ? reach.query_end(last) : reach.key_end(last);
        const int per_head = max(0, end - begin + kColumns - 1) / kColumns;
        return Range{begin, per_head, per_head * (kByKeys ? group : 1)};
    };
    uint32_t phase = 0;  // of the barriers of owned operands

    if (threadIdx.x < 128) {
        ptx::setmaxnreg_dec<Mine::kProducerRegisters>();
        if (threadIdx.x == 0) {
#pragma unroll 1
            for (int round = 0, t; (t = tile_of_turn(round)) < tiles; ++round) {
                const auto [batch, head, row0] = place_of<Mine::kRows, !kByKeys>(t, order, own_heads);
                const Reach reach = reach_at(batch);
                if (row0 >= (kByKeys ? reach.keys : reach.queries)) continue;  // of a shorter sequence than the longest
                const Range range = range_of(reach, row0);
#pragma unroll 1
                for (int c = 0; c < kConsumers; ++c) {
                    unsigned char* const own = shared + 2 * c * Mine::kPart;
                    const Box box = kByKeys ? box_of_keys<64>(p, reach, batch, head, row0 + c * 64)
                                            : box_of_queries<64>(p, reach, batch, head, row0 + c * 64);
                    ptx::mbarrier_wait(&own_empty[c], phase ^ 1);
                    ptx::mbarrier_arrive_expect_tx(&own_full[c], (kOfScores ? 2 : 1) * Mine::kPart);
                    load_tile<kWidth, kPartBytes>(own, &maps.own_first, &own_full[c], box);
                    if constexpr (kOfScores)
                        load_tile<kWidth, kPartBytes>(own + Mine::kPart, &maps.own_second, &own_full[c], box);
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
                    load_tile<kWidth, Mine::kStageBox>(
                        shared + Mine::kRing + ring.stage * Mine::kStage, second ? &maps.second : &maps.first, full,
                        kByKeys ? box_of_queries<kColumns>(p, reach, batch, of_head, column0)
                                : box_of_keys<kColumns>(p, reach, batch, of_head, column0));
                    if constexpr (kByKeys)
                        ptx::tma_load_1d(statistics + ring.stage * Mine::kStatistics, second ? &maps.delta : &maps.lse,
                                         full, int(first_statistic(p, reach, batch, of_head)) + column0);
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
    for (int round = 0; tile_of_turn(round) < tiles; ++round) {
        // Computed where it is asked for, not held in registers; so is a thread's first row.
        const auto place_here = [&] {
            return place_of<Mine::kRows, !kByKeys>(tile_of_turn(ptx::opaque(round)), order, own_heads);
        };
        const Reach reach = reach_at(place_here().batch);
        const int rows = kByKeys ? reach.keys : reach.queries;
        const int tile_row = place_here().row0, row0 = tile_row + consumer * 64;
        if (tile_row >= rows) continue;
        const Range range = range_of(reach, tile_row);
        const auto row_here = [&] {
            const int where = ptx::opaque(thread);
            return row0 + where / 32 * 16 + where % 32 / 4;
        };
        // Columns [whole_begin, whole_end) are seen by every row of the warpgroup.
        const int whole_begin = kByKeys ? reach.query_begin(row0 + 63) : reach.key_begin(row0 + 63);
        const int whole_end = kByKeys ? reach.query_end(row0) : reach.key_end(row0);
        float row_lse[2] = {}, row_delta[2] = {};  // of owned queries
        if constexpr (!kByKeys) {
            const auto [batch, head, _] = place_here();
            if (kFeatured && a.ds) {
                float* const ds = static_cast<float*>(a.ds) + (int64_t(batch) * p.heads + head) * p.queries * p.keys;
                const int end = range.begin + range.steps * kColumns;
                clear_gradients(ds, row0, rows, p.keys, 0, min(range.begin, reach.keys), thread);
                clear_gradients(ds, row0, rows, p.keys, end, reach.keys, thread);
            }
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = row_here() + half * 8;
                const int64_t index = first_statistic(p, reach, batch, head) + row;
                if (row < rows) {
                    row_lse[half] = exponent_of(static_cast<const float*>(a.lse)[index]);
                    row_delta[half] = static_cast<const float*>(a.delta)[index];
                }
            }
        }
        float of_first[kOfScores ? kWidth / 2 : 1] = {}, of_second[kOfValues ? kWidth / 2 : 1] = {};
        uint32_t weights[kOfValues ? kColumns / 16 : 1][4], of_scores[kColumns / 16][4];
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
            if constexpr (kOfScores) {
                ptx::wgmma_registers(ds);
                ptx::wgmma_fence();
                row_products<T, kColumns, kWidth>(ds, own_second, by_rows + at(second));
                ptx::wgmma_commit();
            } else {
#pragma unroll
                for (int v = 0; v < kColumns / 2; ++v) ds[v] = 0;
            }

            const float* const column_lse = reinterpret_cast<const float*>(statistics + first * Mine::kStatistics);
            const float* const column_delta = reinterpret_cast<const float*>(statistics + second * Mine::kStatistics);
            const auto subtract_delta = [&] {
#pragma unroll
                for (int v = 0; v < kColumns / 2; v += 4) {
                    float delta[4] = {row_delta[0], row_delta[0], row_delta[1], row_delta[1]};
                    if constexpr (kByKeys) {
                        const auto pair = load_vector<2>(column_delta + v * 2 + lane % 4 * 2);
                        delta[0] = delta[2] = pair[0], delta[1] = delta[3] = pair[1];
                    }
#pragma unroll
                    for (int e = 0; e < 4; ++e) ds[v + e] -= delta[e];
                }
            };
            float unit = float(p.scale) * kLog2E;
            uint32_t bits = ~0u;  // of elements that dropout keeps
            ptx::wgmma_wait_group<kFeatured || !kOfScores ? 0 : 1>();
            ptx::wgmma_registers(x);
            if constexpr (kFeatured) {
                if constexpr (kOfScores) ptx::wgmma_registers(ds);
                const auto [batch, own_head, _] = place_here();
                const int head = kByKeys ? own_head * group + ptx::opaque(step) / range.per_head : own_head;
                if (p.threshold != 0) {
                    bits = kept<kColumns / 8, kByKeys>(p, batch, head, row_here() - lane / 4, column0);
                    const float keep = float(p.keep_scale);
#pragma unroll
                    for (int v = 0; v < kColumns / 2; ++v) ds[v] *= bits >> v & 1 ? keep : 0.0f;
                }
                subtract_delta();
                finish_scores<T, kByKeys>(x, ds, p, batch, head, reach.shift,
                                          {row_here(), column0 + lane % 4 * 2, kByKeys ? reach.keys : reach.queries,
                                           kByKeys ? reach.queries : reach.keys});
                unit = kLog2E;
            }
            const bool whole = column0 >= whole_begin && column0 + kColumns <= whole_end;
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
                    const int at = row + half * 8;
                    const int from = kByKeys ? reach.query_begin(at) : reach.key_begin(at);
                    const int to = kByKeys ? reach.query_end(at) : reach.key_end(at);
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
            if constexpr (kOfScores) ptx::wgmma_registers(ds);
            if constexpr (!kFeatured) {
                if constexpr (kOfValues) round_to<T, kColumns>(weights, x);
                subtract_delta();
            }
#pragma unroll
            for (int v = 0; v < kColumns / 2; ++v) ds[v] *= x[v];
            if constexpr (kFeatured && kOfValues) {
                const float keep = p.threshold != 0 ? float(p.keep_scale) : 1.0f;
#pragma unroll
                for (int v = 0; v < kColumns / 2; ++v) x[v] *= bits >> v & 1 ? keep : 0.0f;
                round_to<T, kColumns>(weights, x);
            }
            if (kFeatured && !kByKeys && a.ds) {
                const auto [batch, head, _] = place_here();
                const int row = row_here(), column = column0 + lane % 4 * 2;
                float* const to =
                    static_cast<float*>(a.ds) + ((int64_t(batch) * p.heads + head) * p.queries + row) * p.keys + column;
#pragma unroll
                for (int v = 0; v < kColumns / 2; ++v) {
                    const int down = v / 2 % 2 * 8, across = v / 4 * 8 + v % 2;
                    if (row + down < rows && column + across < reach.keys) to[down * p.keys + across] = ds[v];
                }
            }
            if (kByKeys && column0 + kColumns > reach.queries) {  // another's delta, which may be NaN
#pragma unroll
                for (int v = 0; v < kColumns / 2; ++v)
                    if (column0 + v / 4 * 8 + lane % 4 * 2 + v % 2 >= reach.queries) ds[v] = 0;
            }
            if constexpr (kOfScores) {
                round_to<T, kColumns>(of_scores, ds);
                wgmma_registers(of_scores), ptx::wgmma_registers(of_first);
            }
            if constexpr (kOfValues) wgmma_registers(weights), ptx::wgmma_registers(of_second);
            ptx::wgmma_fence();
            if constexpr (kOfValues) add_products<T, kColumns, kWidth>(of_second, weights, by_columns + at(second));
            if constexpr (kOfScores) add_products<T, kColumns, kWidth>(of_first, of_scores, by_columns + at(first));
            ptx::wgmma_commit();
            first_before = first, second_before = second;
            column0 += kColumns;
            if (kByKeys && (step + 1) % range.per_head == 0) column0 = range.begin;
        }
        ptx::wgmma_wait_group<0>();
        if constexpr (kOfScores) ptx::wgmma_registers(of_first);
        if constexpr (kOfValues) ptx::wgmma_registers(of_second);
        release();

        const auto [batch, head, _] = place_here();
        const float scale = float(p.scale), scales[2] = {scale, scale}, ones[2] = {1, 1};
        const Box box =
            kByKeys ? box_of_keys<64>(p, reach, batch, head, row0) : box_of_queries<64>(p, reach, batch, head, row0);
        if constexpr (kOfScores)
            store_rows<T, kWidth>(&maps.of_first, of_first, scales, own, thread, consumer + 1, row0 < rows, int(p.d),
                                  box);
        if constexpr (kOfValues)
            store_rows<T, kWidth>(&maps.of_second, of_second, ones, own + Mine::kPart, thread, consumer + 1,
                                  row0 < rows, int(p.dv), box);
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

template <class T, Gradient kOf, int kIndex, bool kFeatured>
void launch_backward(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    constexpr bool kByKeys = kOf != Gradient::q;
    constexpr AttentionSm90Tile kTile =
        kFeatured ? (kByKeys ? kAttentionSm90OfKeysFeatured : kAttentionSm90OfQueriesFeatured)[kIndex]
                  : (kByKeys ? kAttentionSm90OfKeys : kAttentionSm90OfQueries)[kIndex];
    const AttentionProblem& p = a.problem;
    if ((kByKeys ? p.keys : p.queries) == 0) return;  // of packed sequences
    const auto queries = [&](const void* data, const AttentionStrides& s, int64_t columns, int rows) {
        return map_of_queries<T>(p, data, s, columns, rows);
    };
    const auto keys = [&](const void* data, const AttentionStrides& s, int64_t columns, int rows) {
        return map_of_keys<T>(p, data, s, columns, rows);
    };
    BackwardMaps maps{};
    if constexpr (kByKeys) {
        maps.own_first = keys(p.k, p.k_strides, p.d, 64), maps.own_second = keys(p.v, p.v_strides, p.dv, 64);
        maps.first = queries(p.q, p.q_strides, p.d, kTile.columns);
        maps.second = queries(a.grad, a.grad_strides, p.dv, kTile.columns);
        const int64_t all = p.heads * (p.features.q_starts ? p.features.query_tokens : p.batch * p.queries);
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
    gpu::launch<attention_backward_sm90_kernel<T, kTile.width, kTile.consumers, kTile.columns, kOf, kFeatured>>(
        dim3(unsigned(std::min(heads * tiles_down, int64_t(config.max_blocks)))), dim3(128 * (kTile.consumers + 1)),
        unsigned(attention_sm90_backward_bytes(kTile, config.stages)), stream, a, maps, order, config.stages);
}

template <class T, int kIndex, bool kFeatured>
void launch_backward(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    launch_backward<T, Gradient::q, kIndex, kFeatured>(a, config, stream);
    if constexpr (kIndex < 2) {
        launch_backward<T, Gradient::k_and_v, kIndex, kFeatured>(a, config, stream);
    } else {
        launch_backward<T, Gradient::k, kIndex, kFeatured>(a, config, stream);
        launch_backward<T, Gradient::v, kIndex, kFeatured>(a, config, stream);
    }
}

template <class T, bool kFeatured>
void launch_backward(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    switch (attention_sm90_index(a.problem.d, a.problem.dv)) {
        case 0: return launch_backward<T, 0, kFeatured>(a, config, stream);
        case 1: return launch_backward<T, 1, kFeatured>(a, config, stream);
        default: return launch_backward<T, 2, kFeatured>(a, config, stream);
    }
}

template <class T>
void launch_backward(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    if (is_featured(a.problem) || a.problem.threshold != 0) launch_backward<T, true>(a, config, stream);
    else launch_backward<T, false>(a, config, stream);
}

}  // namespace attention_sm90
