// Gradients of attention on mma.sync: one kernel source whose blocks own 64 queries (for dq) or 64 keys (for dk and dv) and
// walk over the others, two operands of them a stage. Probabilities are computed again from q, k and lse. Every sum has one
// owner, so that bits do not depend on the order of blocks; what that costs is that two products of five are made twice.
//
// Owned rows with their two operands, and what comes by in columns:
//   dq           queries  q, grad   keys     k, v      dq += ds k
//   dk, dv       keys     k, v      queries  q, grad   dk += ds^T q,  dv += p^T grad
#pragma once
#include "attention_sm80.cuh"

namespace attention_sm80 {

template <class T, int kWidth, int kColumns, Gradient kOf>
__global__ void __launch_bounds__(128, 1)
attention_backward_sm80_kernel(const __grid_constant__ AttentionBackward a, const Copies copies, bool vectors,
                               bool v_vectors, int stages) {
    constexpr bool kByKeys = kOf != Gradient::q, kOfScores = kOf != Gradient::v;
    constexpr bool kOfValues = kOf == Gradient::k_and_v || kOf == Gradient::v;
    constexpr int kThreads = 128, kRows = 64, kRowBytes = kWidth * int(sizeof(T)), kBlocks = kColumns / 8;
    constexpr int kTile = kColumns * kRowBytes, kStage = 2 * kTile + kColumns * 8;
    static_assert(2 * kColumns <= kThreads, "a thread copies one lse or delta");
    // The sequence; (2, kRows, kWidth) owned; stages of (2, kColumns, kWidth), (2, kColumns) lse and delta.
    GPU_SHARED(shared);
    Subject& subject = subject_in(shared);
    const Sequence& sequence = subject.sequence;
    const Span& span = subject.span;
    unsigned char *const own_first = shared + kAttentionSm80Header, *const own_second = own_first + kRows * kRowBytes;
    unsigned char* const ring = own_second + kRows * kRowBytes;
    const AttentionProblem& p = a.problem;
    const int64_t rows = kByKeys ? p.keys : p.queries, heads = kByKeys ? p.key_heads : p.heads;
    const int tiles_down = int((rows + kRows - 1) / kRows), group = int(p.heads / p.key_heads);
    const int lane = int(threadIdx.x) % 32, warp_row = int(threadIdx.x) / 32 * 16;
    const float *const lse = static_cast<const float*>(a.lse), *const delta = static_cast<const float*>(a.delta);

    const int tiles = int(tiles_down * heads * p.batch);
    for (int t = int(blockIdx.x); t < tiles; t += int(gridDim.x)) {
        // Rows that see most first: the last queries, the first keys.
        const Place place = place_of<kRows, !kByKeys>(t, tiles_down, int(heads));
        const Sequence here = sequence_of(p, place.batch);
        const int64_t own_rows = kByKeys ? here.keys : here.queries;
        if (place.row0 >= own_rows) continue;
        if (threadIdx.x == 0) {
            // The same columns of every query head of the group.
            const int64_t first = place.row0, last = min(first + kRows, own_rows) - 1;
            subject.sequence = here, subject.row0 = first, subject.head = place.head;
            if constexpr (kByKeys)
                subject.span = span_of<kColumns>(here.query_begin(first), here.query_end(last), here.query_begin(last),
                                                 here.query_end(first));
            else  // where gradients of scores are wanted, those that nobody sees are written as well: as zeros
                subject.span =
                    span_of<kColumns>(a.ds ? 0 : here.key_begin(first), a.ds ? here.keys : here.key_end(last),
                                      here.key_begin(last), here.key_end(first));
        }
        __syncthreads();
        const int64_t& row0 = subject.row0;
        const int& own_head = subject.head;
        const int head0 = kByKeys ? own_head * group : own_head, key_head = kByKeys ? own_head : own_head / group;
        const auto keys = [&] {
            return rows_of_head<T>(p.k, p.k_strides, sequence.batch, key_head, sequence.k0, sequence.keys, p.d,
                                   copies.k);
        };
        const auto values = [&] {
            return rows_of_head<T>(p.v, p.v_strides, sequence.batch, key_head, sequence.k0, sequence.keys, p.dv,
                                   copies.v);
        };
        const auto queries_of = [&](int64_t head) {
            return rows_of_head<T>(p.q, p.q_strides, sequence.batch, head, sequence.q0, sequence.queries, p.d,
                                   copies.q);
        };
        const auto grad_of = [&](int64_t head) {
            return rows_of_head<T>(a.grad, a.grad_strides, sequence.batch, head, sequence.q0, sequence.queries, p.dv,
                                   copies.grad);
        };
        const int per_head = span.to - span.from, steps = per_head * (kByKeys ? group : 1);

        int copied = 0, write = 0, read = 0;
        const auto copy_next = [&] {
            if (copied < steps) {
                unsigned char* const stage = ring + write * kStage;
                const int head = head0 + copied / per_head;
                const int64_t column0 = int64_t(span.from + copied % per_head) * kColumns;
                if constexpr (kByKeys) {
                    const auto q = queries_of(head), grad = grad_of(head);
                    load_tile<T, kColumns, kRowBytes, false, kThreads>(stage, q, q.data, column0, 0);
                    load_tile<T, kColumns, kRowBytes, false, kThreads>(stage + kTile, grad, grad.data, column0, 0);
                    if (threadIdx.x < 2 * kColumns) {  // beyond the last query: zeros, as its operands are
                        const float* const from = threadIdx.x < kColumns ? lse : delta;
                        const int64_t column = column0 + threadIdx.x % kColumns;
                        const bool inside = column < sequence.queries;
                        ptx::cp_async_4(stage + 2 * kTile + threadIdx.x * 4,
                                        inside ? from + statistic(p, sequence, head, column) : from, inside ? 4 : 0);
                    }
                } else {
                    const auto k = keys(), v = values();
                    load_tile<T, kColumns, kRowBytes, false, kThreads>(stage, k, k.data, column0, 0);
                    load_tile<T, kColumns, kRowBytes, false, kThreads>(stage + kTile, v, v.data, column0, 0);
                }
            }
            ptx::cp_async_commit();
            ++copied, write = write + 1 == stages ? 0 : write + 1;
        };
        {
            const auto first = kByKeys ? keys() : queries_of(head0);
            const auto second = kByKeys ? values() : grad_of(head0);
            load_tile<T, kRows, kRowBytes, false, kThreads>(own_first, first, first.data, row0, 0);
            if constexpr (kOfScores)
                load_tile<T, kRows, kRowBytes, false, kThreads>(own_second, second, second.data, row0, 0);
        }
        for (int s = 0; s < stages - 1; ++s) copy_next();

        float row_lse[2] = {}, row_delta[2] = {};  // of owned queries
        if constexpr (!kByKeys) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int64_t row = row0 + warp_row + half * 8 + lane / 4, at = statistic(p, sequence, head0, row);
                if (row < sequence.queries) row_lse[half] = lse[at], row_delta[half] = delta[at];
            }
        }
        float of_scores[kOfScores ? kWidth / 8 : 1][4] = {}, of_values[kOfValues ? kWidth / 8 : 1][4] = {};

#pragma unroll 1
        for (int step = 0; step < steps; ++step) {
            wait_for_stage(stages);
            __syncthreads();  // everyone's copies of this step have landed, and the stage read last is free
            const unsigned char* const stage = ring + read * kStage;
            read = read + 1 == stages ? 0 : read + 1;
            copy_next();
            const int head = head0 + step / per_head;
            const int tile = span.from + step % per_head;
            const int64_t column0 = int64_t(tile) * kColumns;

            float x[kBlocks][4] = {};  // products, scores, then probabilities
            row_products<T, kWidth>(x, own_first, warp_row, stage, p.tf32);
            if (p.mask_kind != AttentionMask::none) {
                masked_scores<T, kBlocks, kByKeys>(x, p, sequence, head, row0 + warp_row, column0);
            } else {
                scores_of<T, kBlocks, kByKeys>(x, p, sequence, head, row0 + warp_row, column0);
                if (tile < span.whole_from || tile >= span.whole_to)
                    hide<kBlocks, kByKeys>(x, sequence, row0 + warp_row, column0);
            }
#pragma unroll
            for (int j = 0; j < kBlocks; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    float of_row = row_lse[e / 2];
                    if constexpr (kByKeys)
                        of_row =
                            *reinterpret_cast<const float*>(stage + 2 * kTile + (j * 8 + lane % 4 * 2 + e % 2) * 4);
                    // A row that sees nothing has -inf: no probability is other than 0.
                    of_row = of_row == -kInfinity<float> ? kInfinity<float> : of_row * kLog2E;
                    x[j][e] = ptx::ex2_approx_ftz(fmaf(x[j][e], kLog2E, -of_row));
                }

            uint32_t bits = 0;
            if (p.threshold != 0) bits = kept<kBlocks, kByKeys>(p, sequence.batch, head, row0 + warp_row, column0);
            const float keep_scale = p.threshold != 0 ? float(p.keep_scale) : 1.0f;
            const auto keep = [&](int j, int e) {
                return p.threshold == 0 || (bits >> (j * 4 + e) & 1) ? keep_scale : 0.0f;
            };
            if constexpr (kOfValues) {
                float kept_x[kBlocks][4];
#pragma unroll
                for (int j = 0; j < kBlocks; ++j)
#pragma unroll
                    for (int e = 0; e < 4; ++e) kept_x[j][e] = x[j][e] * keep(j, e);
                add_products<T, kWidth>(of_values, kept_x, stage + kTile, p.tf32);
            }
            if constexpr (kOfScores) {
                float ds[kBlocks][4] = {};  // first the products of grad and v
                row_products<T, kWidth>(ds, own_second, warp_row, stage + kTile, p.tf32);
#pragma unroll
                for (int j = 0; j < kBlocks; ++j)
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        float mean = row_delta[e / 2];
                        if constexpr (kByKeys)
                            mean = *reinterpret_cast<const float*>(stage + 2 * kTile +
                                                                   (kColumns + j * 8 + lane % 4 * 2 + e % 2) * 4);
                        ds[j][e] = x[j][e] * (ds[j][e] * keep(j, e) - mean);
                    }
                if constexpr (!kByKeys) {
                    if (a.ds) {
#pragma unroll
                        for (int j = 0; j < kBlocks; ++j)
#pragma unroll
                            for (int e = 0; e < 4; ++e) {
                                const int64_t row = row0 + warp_row + e / 2 * 8 + lane / 4;
                                const int64_t column = column0 + j * 8 + lane % 4 * 2 + e % 2;
                                if (row < sequence.queries && column < sequence.keys)
                                    static_cast<float*>(a.ds)[statistic(p, sequence, head, row) * p.keys + column] =
                                        ds[j][e];
                            }
                    }
                }
                if (p.features.softcap != 0) {  // by its derivative, from the products made again
                    const float factor = float(p.scale / p.features.softcap);
                    float products[kBlocks][4] = {};
                    row_products<T, kWidth>(products, own_first, warp_row, stage, p.tf32);
#pragma unroll
                    for (int j = 0; j < kBlocks; ++j)
#pragma unroll
                        for (int e = 0; e < 4; ++e) {
                            const float capped = cap_tanh<T>(products[j][e] * factor);
                            ds[j][e] *= 1 - capped * capped;
                        }
                }
                add_products<T, kWidth>(of_scores, ds, stage, p.tf32);
            }
        }

        ptx::cp_async_wait_all();
        __syncthreads();  // also where there was no step: results take the place of operands
        const float scale = float(p.scale), scales[2] = {scale, scale}, ones[2] = {1, 1};
        if constexpr (kOfScores)
            store_rows<T, kWidth>(kByKeys ? a.dk : a.dq, kByKeys ? a.dk_strides : a.dq_strides, sequence.batch,
                                  own_head, kByKeys ? sequence.k0 : sequence.q0, row0 + warp_row,
                                  kByKeys ? sequence.keys : sequence.queries, p.d, vectors, of_scores, scales,
                                  own_first, warp_row);
        if constexpr (kOfValues)
            store_rows<T, kWidth>(a.dv, a.dv_strides, sequence.batch, own_head, sequence.k0, row0 + warp_row,
                                  sequence.keys, p.dv, v_vectors, of_values, ones, own_second, warp_row);
        __syncthreads();  // the next tile's sequence and operands overwrite what is read here
    }
}

template <class T, int kWidth, Gradient kOf>
void launch_backward(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    constexpr AttentionSm80Tile kTile = attention_sm80_tile(kWidth, kWidth, sizeof(T), true);
    constexpr bool kByKeys = kOf != Gradient::q;
    const AttentionProblem& p = a.problem;
    const int64_t rows = kByKeys ? p.keys : p.queries, heads = kByKeys ? p.key_heads : p.heads;
    const int64_t tiles = p.batch * heads * ((rows + kTile.rows() - 1) / kTile.rows());
    if (tiles == 0) return;
    const Copies copies{copy_bytes<T>(p.q, p.q_strides), copy_bytes<T>(p.k, p.k_strides),
                        copy_bytes<T>(p.v, p.v_strides), copy_bytes<T>(a.grad, a.grad_strides)};
    gpu::launch<attention_backward_sm80_kernel<T, kTile.width, kTile.columns, kOf>>(
        dim3(unsigned(std::min({tiles, int64_t(config.max_blocks), int64_t(1) << 30}))), dim3(kTile.warps * 32),
        unsigned(attention_sm80_shared_bytes(p.d, p.dv, sizeof(T), true, config.stages)), stream, a, copies,
        copy_bytes<T>(kByKeys ? a.dk : a.dq, kByKeys ? a.dk_strides : a.dq_strides) == 16,
        copy_bytes<T>(a.dv, a.dv_strides) == 16, config.stages);
}

template <class T>
void launch_backward(const AttentionBackward& a, const AttentionConfig& config, cudaStream_t stream) {
    switch (attention_sm80_width(a.problem.d, a.problem.dv)) {
        case 64:
            launch_backward<T, 64, Gradient::q>(a, config, stream);
            return launch_backward<T, 64, Gradient::k_and_v>(a, config, stream);
        case 128:
            launch_backward<T, 128, Gradient::q>(a, config, stream);
            if constexpr (kFloat<T>) {
                launch_backward<T, 128, Gradient::k>(a, config, stream);
                return launch_backward<T, 128, Gradient::v>(a, config, stream);
            } else {
                return launch_backward<T, 128, Gradient::k_and_v>(a, config, stream);
            }
        default:
            if constexpr (!kFloat<T>) {
                launch_backward<T, 256, Gradient::q>(a, config, stream);
                launch_backward<T, 256, Gradient::k>(a, config, stream);
                launch_backward<T, 256, Gradient::v>(a, config, stream);
            }
    }
}

}  // namespace attention_sm80
