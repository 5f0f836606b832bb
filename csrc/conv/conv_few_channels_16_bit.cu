// First layers of 16-bit types, on mma.sync: fragments of windows are gathered from the patch in shared memory, element by
// element, which are as many reads as ldmatrix would have needed stores before it; the other operand lies as ldmatrix
// reads it.
#include "../device/mma_fragments.cuh"
#include "../device/moments.cuh"
#include "conv_few_channels.cuh"

namespace {

using namespace conv_few_channels;
constexpr int kWarps = kThreads / 32, kDown = 2;  // blocks of 16 results that a warp has at once

// Two neighbours along k of a fragment of windows, from places `a` and `b` of the patch, negative ones being zero.
template <class T>
__device__ __forceinline__ uint32_t gather_pair(const T* patch, bool first, int a, bool second, int b) {
    const auto* const bits = reinterpret_cast<const uint16_t*>(patch);
    return (first ? uint32_t(bits[a]) : 0u) | (second ? uint32_t(bits[b]) : 0u) << 16;
}

// The moments of 16 staged rows as they are rounded, those whose place in the table says that they are real, added to the
// warp's, (3, warps, 64), unless these are the `first`. A lane has two columns.
template <class T>
__device__ __forceinline__ void see_staged(float* seen, const float* staged, const int* table, const T* bias,
                                           int64_t filter0, int filters, bool first, int lane) {
    constexpr int kField = kWarps * kFilters;
#pragma unroll 1
    for (int column = lane; column < kFilters; column += 32) {
        const float shift = bias && column < filters ? convert<float>(bias[filter0 + column]) : 0;
        const auto value = [&](int row) {
            return convert<float>(convert<T>(staged[staged_index<kFilters>(row, column)] + shift));
        };
        float sum = 0, count = 0, squares[1] = {};
#pragma unroll 4
        for (int row = 0; row < 16; ++row)
            if (table[row] >= 0) sum += value(row), count += 1;
        const float mean[1] = {count > 0 ? sum / count : 0};
#pragma unroll 4
        for (int row = 0; row < 16; ++row)
            if (table[row] >= 0) squares[0] += (value(row) - mean[0]) * (value(row) - mean[0]);
        VectorMoments<float, 1> all;
        if (!first) all = {seen[column], {seen[kField + column]}, {seen[2 * kField + column]}};
        all.combine(count, mean, squares);
        seen[column] = all.count, seen[kField + column] = all.mean[0], seen[2 * kField + column] = all.squares[0];
    }
}

// The moments of a tile from those of its `warps` warps, in order.
__device__ __forceinline__ void
leave_moments(float* to, const float* seen, int64_t all_filters, int filters, int warps) {
    constexpr int kField = kWarps * kFilters;
    const int column = int(threadIdx.x);
    if (column >= filters) return;
    VectorMoments<float, 1> all;
#pragma unroll 1
    for (int at = column; at < min(warps, kWarps) * kFilters; at += kFilters) {
        const float mean[1] = {seen[kField + at]}, squares[1] = {seen[2 * kField + at]};
        all.combine(seen[at], mean, squares);
    }
    all.leave(to + column, all_filters, 1);
}

// Rows are results, columns filters, k is (r, s, c): a warp has 32 results at a time and all of the block's filters, whose
// weights stay in shared memory while it takes tile after tile.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
conv_few_channels_forward_16_bit_kernel(ConvShape s, Plan plan, const T* images, const T* weight,
                                        MatmulArguments finish, MatmulRuns runs, float* moments, int tiles, int width) {
    // (2, stage), weights (steps, 64 filters, 32 of k), offsets of places, (warps, 16, 64) results, (3, warps, 64) moments
    GPU_SHARED(shared);
    unsigned char* const weights = shared + 2 * plan.stage_bytes;
    int* const places = reinterpret_cast<int*>(weights + plan.weight_bytes);
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, g = lane / 4, q = lane % 4;
    float* const all_staged = reinterpret_cast<float*>(places + plan.padded);
    float* const staged = all_staged + warp * 16 * kFilters;
    float* const seen = all_staged + kWarps * 16 * kFilters;
    const int row_terms = s.columns.window * int(s.channels);
    const auto term_of = [&](int k) { return few_channels_term(k, s.rows.window, row_terms); };
    for (int k = int(threadIdx.x); k < plan.padded; k += kThreads) {
        const int term = term_of(k);
        places[k] = term < plan.terms ? place_offset(s, plan, term) : -1;
    }

    const int64_t chunks = (s.filters + kFilters - 1) / kFilters;
    int64_t loaded = -1;
    each_tile(
        shared, plan, int64_t(blockIdx.x), int64_t(gridDim.x), chunks * tiles,
        [&](int64_t t, unsigned char* stage) {
            load_patch(stage, s, plan, images, tile_place(s, plan, int(t % tiles)), width);
        },
        [&](int64_t t, unsigned char* stage) {
            const int64_t filter0 = t / tiles * kFilters;
            const int filters = int(min(s.filters - filter0, int64_t(kFilters)));
            if (t / tiles != loaded) {  // those before have been read: each tile begins with a barrier
                loaded = t / tiles;
                for (int i = int(threadIdx.x); i < kFilters * plan.padded; i += kThreads) {
                    const int filter = i / plan.padded, k = i - filter * plan.padded, term = term_of(k);
                    const auto* const of_filter =
                        reinterpret_cast<const uint16_t*>(weight + (filter0 + min(filter, filters - 1)) * plan.terms);
                    const uint32_t bits = of_filter[min(term, plan.terms - 1)];
                    *reinterpret_cast<uint16_t*>(weights + k / 32 * (kFilters * 64) +
                                                 chunk_offset<T, 64, false>(filter, k % 32 / 8) + k % 8 * 2) =
                        uint16_t(bits * uint32_t(filter < filters && term < plan.terms));
                }
                __syncthreads();
            }
            const T* const patch = reinterpret_cast<const T*>(stage);
            const int* const table = pixel_table(stage, plan);
#pragma unroll 1
            for (int first = warp * kDown * 16; first < plan.pixels; first += kWarps * kDown * 16) {
                int pixel[kDown][2];  // where windows begin; those that are not real are any
#pragma unroll
                for (int i = 0; i < kDown; ++i)
#pragma unroll
                    for (int half = 0; half < 2; ++half) {
                        const int here = first + i * 16 + half * 8 + g;
                        pixel[i][half] = here < plan.pixels ? max(table[here], 0) : 0;
                    }
                float sums[kDown][8][4] = {};
#pragma unroll 1
                for (int k = 0; k < plan.terms; k += 16) {
                    const Vector<int, 2> low = load_vector<2>(places + k + q * 2),
                                         high = load_vector<2>(places + k + q * 2 + 8);
                    uint32_t a[kDown][4];
#pragma unroll
                    for (int i = 0; i < kDown; ++i)
#pragma unroll
                        for (int v = 0; v < 4; ++v) {
                            const int from = pixel[i][v % 2];
                            const Vector<int, 2>& to = v / 2 ? high : low;
                            a[i][v] = gather_pair(patch, to[0] >= 0, from + to[0], to[1] >= 0, from + to[1]);
                        }
#pragma unroll
                    for (int j = 0; j < 4; ++j) {
                        if (j * 16 >= filters) break;
                        uint32_t b[2][2];
                        fragment_b_of_rows<T, 64>(b, weights + k / 32 * (kFilters * 64), j * 16, k % 32 / 16, lane);
#pragma unroll
                        for (int i = 0; i < kDown; ++i)
#pragma unroll
                            for (int half = 0; half < 2; ++half) mma(sums[i][j * 2 + half], a[i], b[half], T{});
                    }
                }
                // Through the warp's part of shared memory: stores are then whole sectors.
                const TilePlace at = tile_place(s, plan, ptx::opaque(int(t % tiles)));  // not held through the loop
#pragma unroll
                for (int i = 0; i < kDown; ++i) {
                    const int row0 = first + i * 16;
                    if (row0 >= plan.pixels) break;
                    __syncwarp();  // the results before have been read
#pragma unroll
                    for (int j = 0; j < 8; ++j)
#pragma unroll
                        for (int half = 0; half < 2; ++half)
                            store_vector(staged + staged_index<kFilters>(half * 8 + g, j * 8 + q * 2),
                                         Vector<float, 2>{{sums[i][j][half * 2], sums[i][j][half * 2 + 1]}});
                    __syncwarp();
                    const auto finish_row = [&](int row, int column, auto& value) {
                        const int64_t to = result_pixel(s, plan, at, row0 + row);
                        if (to < 0 || column >= filters) return;
                        matmul_finish_run<T>(finish, runs, MatmulOffsets{}, 0, to, filter0 + column, value);
                    };
                    if (runs.out) {
#pragma unroll 1
                        for (int item = lane; item < 16 * kFilters / kRun<T>; item += 32) {
                            const int row = item / (kFilters / kRun<T>), column = item % (kFilters / kRun<T>)*kRun<T>;
                            float value[kRun<T>];
                            read_staged(value, staged + staged_index<kFilters>(row, column));
                            finish_row(row, column, value);
                        }
                    } else {
#pragma unroll 1
                        for (int item = lane; item < 16 * kFilters; item += 32) {
                            float value[1] = {staged[staged_index<kFilters>(item / kFilters, item % kFilters)]};
                            finish_row(item / kFilters, item % kFilters, value);
                        }
                    }
                    if (moments)
                        see_staged<T>(seen + warp * kFilters, staged, table + row0, static_cast<const T*>(finish.bias),
                                      filter0, filters, first + i * 16 == warp * kDown * 16, lane);
                }
            }
            if (moments) {
                __syncthreads();
                leave_moments(tile_moments<float>(moments, s, int(t % tiles), filter0), seen, s.filters, filters,
                              (plan.pixels + kDown * 16 - 1) / (kDown * 16));
            }
        });
}

// Rows are filters, columns places (r, s, c), k is results. A warp has all of the block's filters and every n-th eight
// places; where there are fewer of these than warps, warps share out the results, and their sums are added in order.
template <class T, class To>
__global__ void __launch_bounds__(kThreads, 2)
conv_few_channels_weight_grad_16_bit_kernel(ConvShape s, Plan plan, To* out, const T* grad, const T* images, int splits,
                                            int tiles, int grad_width, int width) {
    constexpr int kRow = kFilters * int(sizeof(T)), kAcross = kFewChannelsPlaces16Bit / 8 / kWarps;
    GPU_SHARED(shared);  // (2, stage), then (64, sums_pitch) sums
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, g = lane / 4, q = lane % 4;
    const int grad_at = plan.stage_bytes - plan.pixels * kRow;
    const int64_t jobs = job_count(s, plan, splits);
    for (int64_t j = blockIdx.x; j < jobs; j += gridDim.x) {
        const Job job = take_job(s, plan, splits, tiles, j);
        int across = 1;
        while (across < kWarps && across * 8 < job.places) across *= 2;
        const int warp_across = warp % across, share = warp / across, shares = kWarps / across;
        int offset[kAcross];
#pragma unroll
        for (int n = 0; n < kAcross; ++n) {
            const int k = (n * across + warp_across) * 8 + g;
            offset[n] = k < job.places ? place_offset(s, plan, job.place0 + k) : 0;
        }
        float sums[4][kAcross][4] = {};
        each_tile(
            shared, plan, job.first, 1, job.last,
            [&](int t, unsigned char* stage) {
                const TilePlace at = tile_place(s, plan, t);
                load_patch(stage, s, plan, images, at, width);
                load_grad(stage + grad_at, s, plan, grad, at, job.filter0, grad_width,
                          [](int pixel, int chunk) { return chunk_offset<T, kRow, true>(pixel, chunk); });
            },
            [&](int, unsigned char* stage) {
                const T* const patch = reinterpret_cast<const T*>(stage);
                const int* const table = pixel_table(stage, plan);
#pragma unroll 1
                for (int k = share * 16; k < plan.pixels; k += shares * 16) {
                    const Vector<int, 2> low = load_vector<2>(table + k + q * 2),
                                         high = load_vector<2>(table + k + q * 2 + 8);
                    uint32_t b[kAcross][2];
#pragma unroll
                    for (int n = 0; n < kAcross; ++n) {
                        if ((n * across + warp_across) * 8 >= job.places) break;
                        b[n][0] = gather_pair(patch, low[0] >= 0, low[0] + offset[n], low[1] >= 0, low[1] + offset[n]);
                        b[n][1] =
                            gather_pair(patch, high[0] >= 0, high[0] + offset[n], high[1] >= 0, high[1] + offset[n]);
                    }
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        uint32_t a[4];
                        const int row = k + lane / 16 * 8 + lane % 8;
                        ptx::ldmatrix_x4_trans(
                            a, stage + grad_at + chunk_offset<T, kRow, true>(row, i * 2 + lane / 8 % 2));
#pragma unroll
                        for (int n = 0; n < kAcross; ++n) {
                            if ((n * across + warp_across) * 8 >= job.places) break;
                            mma(sums[i][n], a, b[n], T{});
                        }
                    }
                }
            });
        float* const all = reinterpret_cast<float*>(shared);
        const auto at = [&](int filter, int k) {  // no two of a warp's 8 x 4 in a bank
            return filter * plan.sums_pitch + k + filter / 4 % 2;
        };
#pragma unroll 1
        for (int turn = 0; turn < shares; ++turn) {
            if (turn == share) {
#pragma unroll
                for (int i = 0; i < 4; ++i)
#pragma unroll
                    for (int n = 0; n < kAcross; ++n)
#pragma unroll
                        for (int v = 0; v < 4; ++v) {
                            const int k = (n * across + warp_across) * 8 + q * 2 + v % 2;
                            float& to = all[at(i * 16 + v / 2 * 8 + g, k)];
                            if (k < job.places) to = turn ? to + sums[i][n][v] : sums[i][n][v];
                        }
            }
            __syncthreads();
        }
        leave_sums(out + job.split * s.filters * plan.terms, all, s, plan, job, at);
        __syncthreads();  // the next job's copies overwrite the sums
    }
}

template <class T>
void forward(const GatherArguments& x, DType dtype, const ConvConfig& config, cudaStream_t stream) {
    const ConvShape s = shape_of(x);
    const Plan plan = few_channels_plan({ConvDirection::forward, dtype, s}, config.rows, config.columns);
    MatmulArguments finish{};
    finish.out = x.out, finish.preactivation = x.preactivation, finish.bias = x.bias, finish.bias_stride = 1;
    finish.n = s.filters, finish.m = 1, finish.alpha = 1, finish.activation = x.activation;
    finish.residual = {x.residual, finish.n, 1, {}, false};
    const int tiles = tile_count(s, plan);
    const int64_t chunks = (s.filters + kFilters - 1) / kFilters;
    gpu::launch<conv_few_channels_forward_16_bit_kernel<T>>(
        dim3(block_count(chunks * tiles, config)), dim3(kThreads), unsigned(plan.shared_bytes), stream, s, plan,
        static_cast<const T*>(x.source), static_cast<const T*>(x.weight), finish, matmul_runs<T, kRun<T>>(finish),
        static_cast<float*>(x.moments), tiles, copy_width(s.columns.image * s.channels, int(sizeof(T)), {x.source}));
}

template <class T>
void weight_grad(const WeightGradArguments& x, DType dtype, const ConvConfig& config, cudaStream_t stream) {
    const ConvShape& s = x.shape;
    const Plan plan = few_channels_plan({ConvDirection::weight_grad, dtype, s}, config.rows, config.columns);
    const auto launch = [&](auto* to) {
        using To = std::remove_pointer_t<decltype(to)>;
        gpu::launch<conv_few_channels_weight_grad_16_bit_kernel<T, To>>(
            dim3(block_count(job_count(s, plan, config.splits), config)), dim3(kThreads), unsigned(plan.shared_bytes),
            stream, s, plan, to, static_cast<const T*>(x.grad), static_cast<const T*>(x.x), config.splits,
            tile_count(s, plan), copy_width(s.filters, int(sizeof(T)), {x.grad}),
            copy_width(s.columns.image * s.channels, int(sizeof(T)), {x.x}));
    };
    if (x.workspace) return launch(static_cast<float*>(x.workspace));
    launch(static_cast<T*>(x.out));
}

}  // namespace

void conv_few_channels_gather_16_bit(const GatherArguments& x, DType dtype, const ConvConfig& config,
                                     cudaStream_t stream) {
    if (dtype == DType::float16) return forward<__half>(x, dtype, config, stream);
    forward<__nv_bfloat16>(x, dtype, config, stream);
}

void conv_few_channels_weight_grad_16_bit(const WeightGradArguments& x, DType dtype, const ConvConfig& config,
                                          cudaStream_t stream) {
    if (dtype == DType::float16) return weight_grad<__half>(x, dtype, config, stream);
    weight_grad<__nv_bfloat16>(x, dtype, config, stream);
}
