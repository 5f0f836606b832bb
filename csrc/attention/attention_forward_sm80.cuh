// Forward attention on mma.sync: a block has rows of queries, a ring of stages brings keys and values by turns.
//
// Softmax is online, in powers of two: a row's maximum so far, times log2(e), is subtracted in the multiply-add before
// ex2. Tiles that causality or a window hides wholly are skipped, and only those on an edge look at single elements.
#pragma once
#include "attention_sm80.cuh"

namespace attention_sm80 {

template <class T, int kWidth, int kWarps, int kDown, int kColumns>
__global__ void __launch_bounds__(kWarps * 32, 1)
attention_sm80_kernel(const __grid_constant__ AttentionForward a, const Copies copies, bool vectors, int stages) {
    constexpr int kThreads = kWarps * 32, kRows = kWarps * kDown * 16, kRowBytes = kWidth * int(sizeof(T));
    constexpr int kStage = kColumns * kRowBytes, kBlocks = kColumns / 8, kSlices = kWidth / 16;
    constexpr bool kKeepQueries = kWidth <= 128 && !kFloat<T>;  // in registers
    GPU_SHARED(shared);  // the sequence; (kRows, kWidth) queries, later results; (stages, kColumns, kWidth)
    Subject& subject = subject_in(shared);
    const Sequence& sequence = subject.sequence;
    const Span& span = subject.span;
    unsigned char *const own = shared + kAttentionSm80Header, *const ring = own + kRows * kRowBytes;
    const AttentionProblem& p = a.problem;
    const int tiles_down = int((p.queries + kRows - 1) / kRows), group = int(p.heads / p.key_heads);
    // Where there is neither cap nor bias, the greatest product is the greatest score.
    const bool plain =
        p.mask_kind == AttentionMask::none && p.scale > 0 && p.features.softcap == 0 && !p.features.slopes;
    const int lane = int(threadIdx.x) % 32, warp_row = int(threadIdx.x) / 32 * kDown * 16;

    const int tiles = int(tiles_down * p.heads * p.batch);
    for (int t = int(blockIdx.x); t < tiles; t += int(gridDim.x)) {
        // Rows that see most keys first: what is left for the end is short.
        const Place place = place_of<kRows, true>(t, tiles_down, int(p.heads));
        const Sequence here = sequence_of(p, place.batch);
        if (place.row0 >= here.queries) continue;
        if (threadIdx.x == 0) {
            const int64_t row0 = place.row0, last_row = min(row0 + kRows, here.queries) - 1;
            subject = {here,
                       span_of<kColumns>(here.key_begin(row0), here.key_end(last_row), here.key_begin(last_row),
                                         here.key_end(row0)),
                       row0, place.head};
        }
        __syncthreads();
        const int64_t& row0 = subject.row0;
        const int& head = subject.head;
        const auto q =
            rows_of_head<T>(p.q, p.q_strides, sequence.batch, head, sequence.q0, sequence.queries, p.d, copies.q);

        int item = 2 * span.from;  // to be copied next, up to 2 * span.to
        int write = 0, read = 0;
        const auto copy_next = [&] {
            if (item < 2 * span.to) {
                const bool values = item % 2;
                const auto from = rows_of_head<T>(values ? p.v : p.k, values ? p.v_strides : p.k_strides,
                                                  sequence.batch, head / group, sequence.k0, sequence.keys,
                                                  values ? p.dv : p.d, values ? copies.v : copies.k);
                load_tile<T, kColumns, kRowBytes, false, kThreads>(ring + write * kStage, from, from.data,
                                                                   int64_t(item / 2) * kColumns, 0);
            }
            ptx::cp_async_commit();
            ++item, write = write + 1 == stages ? 0 : write + 1;
        };
        // The next item has landed, and the stage read last is free.
        const auto next_item = [&] {
            wait_for_stage(stages);
            __syncthreads();
            const unsigned char* const stage = ring + read * kStage;
            read = read + 1 == stages ? 0 : read + 1;
            copy_next();
            return stage;
        };
        load_tile<T, kRows, kRowBytes, false, kThreads>(own, q, q.data, row0, 0);  // in the first item's group
        for (int s = 0; s < stages - 1; ++s) copy_next();

        uint32_t queries[kKeepQueries ? kDown : 1][kKeepQueries ? kSlices : 1][4];
        if constexpr (kKeepQueries) {
            wait_for_stage(stages);
            __syncthreads();
            const int at = lane_here();
#pragma unroll
            for (int i = 0; i < kDown; ++i)
#pragma unroll
                for (int slice = 0; slice < kSlices; ++slice)
                    fragment_a<T, kRowBytes>(queries[i][slice], own, warp_row + i * 16, slice, at);
        }

        float out[kDown][kWidth / 8][4] = {};
        float high[kDown][2], total[kDown][2] = {};  // rows' maxima times log2(e); sums of this thread's columns
#pragma unroll
        for (int i = 0; i < kDown; ++i) high[i][0] = high[i][1] = -kInfinity<float>;

#pragma unroll 1
        for (int step = span.from; step < span.to; ++step) {
            const int64_t column0 = int64_t(step) * kColumns;
            float scores[kDown][kBlocks][4] = {};
            const unsigned char* const keys = next_item();
            if constexpr (kFloat<T>) {
                row_products<T, kWidth>(scores[0], own, warp_row, keys, p.tf32);
            } else {
                const int at = lane_here();
#pragma unroll
                for (int slice = 0; slice < kSlices; ++slice) {
                    uint32_t fresh[kDown][4];
                    if constexpr (!kKeepQueries) {
#pragma unroll
                        for (int i = 0; i < kDown; ++i)
                            fragment_a<T, kRowBytes>(fresh[i], own, warp_row + i * 16, slice, at);
                    }
#pragma unroll
                    for (int j = 0; j < kBlocks; j += 2) {
                        uint32_t b[2][2];
                        fragment_b_of_rows<T, kRowBytes>(b, keys, j * 8, slice, at);
#pragma unroll
                        for (int i = 0; i < kDown; ++i) {
                            const auto& x =
                                kKeepQueries ? queries[kKeepQueries ? i : 0][kKeepQueries ? slice : 0] : fresh[i];
                            mma(scores[i][j], x, b[0], T{}), mma(scores[i][j + 1], x, b[1], T{});
                        }
                    }
                }
            }

            // What scores, or products that stand for them, are multiplied by to be exponents.
            const float unit = plain ? float(p.scale) * kLog2E : kLog2E;
            if (p.mask_kind != AttentionMask::none) {
#pragma unroll
                for (int i = 0; i < kDown; ++i)
                    masked_scores<T, kBlocks, false>(scores[i], p, sequence, head, row0 + warp_row + i * 16, column0);
            } else {
                if (!plain) {
#pragma unroll
                    for (int i = 0; i < kDown; ++i)
                        scores_of<T, kBlocks, false>(scores[i], p, sequence, head, row0 + warp_row + i * 16, column0);
                }
                if (step < span.whole_from || step >= span.whole_to) {
#pragma unroll
                    for (int i = 0; i < kDown; ++i)
                        hide<kBlocks, false>(scores[i], sequence, row0 + warp_row + i * 16, column0);
                }
            }

#pragma unroll
            for (int i = 0; i < kDown; ++i)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    float top = -kInfinity<float>;  // fmaxf passes over NaN
#pragma unroll
                    for (int j = 0; j < kBlocks; ++j)
                        top = fmaxf(top, fmaxf(scores[i][j][half * 2], scores[i][j][half * 2 + 1]));
                    top = fmaxf(top, exchange(top, 1));
                    top = fmaxf(top, exchange(top, 2));
                    top = fmaxf(high[i][half], top * unit);
                    const float base =
                        top == -kInfinity<float> ? 0.0f : top;  // nothing seen yet: all exponents are -inf
                    const float factor = ptx::ex2_approx_ftz(high[i][half] - base);
                    high[i][half] = top;
                    float sum = 0;
#pragma unroll
                    for (int j = 0; j < kBlocks; ++j)
#pragma unroll
                        for (int e = 0; e < 2; ++e) {
                            float& s = scores[i][j][half * 2 + e];
                            s = ptx::ex2_approx_ftz(fmaf(s, unit, -base));
                            sum += s;
                        }
                    total[i][half] = fmaf(total[i][half], factor, sum);
#pragma unroll
                    for (int j = 0; j < kWidth / 8; ++j)
                        out[i][j][half * 2] *= factor, out[i][j][half * 2 + 1] *= factor;
                }
            if (p.threshold != 0) {
#pragma unroll
                for (int i = 0; i < kDown; ++i) {
                    const uint32_t bits =
                        kept<kBlocks, false>(p, sequence.batch, head, row0 + warp_row + i * 16, column0);
#pragma unroll
                    for (int j = 0; j < kBlocks; ++j)
#pragma unroll
                        for (int e = 0; e < 4; ++e)
                            scores[i][j][e] *= bits >> (j * 4 + e) & 1 ? float(p.keep_scale) : 0.0f;
                }
            }
            if constexpr (kFloat<T>) {
                add_products<T, kWidth>(out[0], scores[0], next_item(), p.tf32);
            } else {
                uint32_t weights[kDown][kBlocks / 2][4];
#pragma unroll
                for (int i = 0; i < kDown; ++i) round_to<T>(weights[i], scores[i]);

                const unsigned char* const values = next_item();
                const int at = lane_here();
#pragma unroll
                for (int slice = 0; slice < kBlocks / 2; ++slice)
#pragma unroll
                    for (int j = 0; j < kWidth / 8; j += 2) {
                        uint32_t b[2][2];
                        fragment_b_of_columns<T, kRowBytes>(b, values, j * 8, slice, at);
#pragma unroll
                        for (int i = 0; i < kDown; ++i)
                            mma(out[i][j], weights[i][slice], b[0], T{}),
                                mma(out[i][j + 1], weights[i][slice], b[1], T{});
                    }
            }
        }

        ptx::cp_async_wait_all();
        __syncthreads();  // also where there was no key: results take the place of queries
#pragma unroll
        for (int i = 0; i < kDown; ++i) {
            float factor[2];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float sum = warp_reduce(total[i][half], 4, Add());
                factor[half] = sum == 0 ? 0.0f : 1 / sum;
                const int64_t row = row0 + warp_row + i * 16 + half * 8 + lane / 4;
                if (lane % 4 == 0 && row < sequence.queries)
                    static_cast<float*>(a.lse)[statistic(p, sequence, head, row)] =
                        sum == 0 ? -kInfinity<float> : fmaf(high[i][half], kLn2, logarithm(sum));
            }
            store_rows<T, kWidth>(a.out, a.out_strides, sequence.batch, head, sequence.q0, row0 + warp_row + i * 16,
                                  sequence.queries, p.dv, vectors, out[i], factor, own, warp_row + i * 16);
        }
        __syncthreads();  // the next tile's sequence and queries overwrite what is read here
    }
}

template <class T, int kWidth>
void launch(const AttentionForward& a, const AttentionConfig& config, cudaStream_t stream) {
    constexpr AttentionSm80Tile kTile = attention_sm80_tile(kWidth, kWidth, sizeof(T), false);
    const AttentionProblem& p = a.problem;
    const int64_t tiles = p.batch * p.heads * ((p.queries + kTile.rows() - 1) / kTile.rows());
    const Copies copies{copy_bytes<T>(p.q, p.q_strides), copy_bytes<T>(p.k, p.k_strides),
                        copy_bytes<T>(p.v, p.v_strides), 0};
    gpu::launch<attention_sm80_kernel<T, kTile.width, kTile.warps, kTile.blocks_down, kTile.columns>>(
        dim3(unsigned(std::min({tiles, int64_t(config.max_blocks), int64_t(1) << 30}))), dim3(kTile.warps * 32),
        unsigned(attention_sm80_shared_bytes(p.d, p.dv, sizeof(T), false, config.stages)), stream, a, copies,
        copy_bytes<T>(a.out, a.out_strides) == 16, config.stages);
}

template <class T>
void launch(const AttentionForward& a, const AttentionConfig& config, cudaStream_t stream) {
    switch (attention_sm80_width(a.problem.d, a.problem.dv)) {
        case 64: return launch<T, 64>(a, config, stream);
        case 128: return launch<T, 128>(a, config, stream);
        default:
            if constexpr (!kFloat<T>) return launch<T, 256>(a, config, stream);
    }
}

}  // namespace attention_sm80
