// First layers of float32 and float64, on ordinary multiply-adds: the sums are short and have no need of a tensor core's
// rate to keep up with half of it, 3xTF32's, and infinities need no second turn.
#include "../device/activation.cuh"
#include "../device/block_product.cuh"
#include "../device/moments.cuh"
#include "conv_few_channels.cuh"

namespace {

using namespace conv_few_channels;

// Results, or places, of a thread, each for four filters: two sets of their sums are in registers.
template <class T> constexpr int kEach = sizeof(T) == 8 ? 4 : 8;

// The weights of `filters` filters from `from` (filters, terms) to `to` (padded, 64 filters and a pad), zeros for others. A
// warp has 32 neighbours of four filters at once, and writes in turn of each lane's four those of which a wavefront's
// lanes have other banks.
template <class T>
__device__ __forceinline__ void load_weights(T* to, const T* from, const Plan& plan, int filters) {
    constexpr int kTurn = 32 / int(sizeof(T));  // terms whose rows of filters begin in different banks
    const int lane = int(threadIdx.x) % 32, blocks = plan.padded / 32;
#pragma unroll 1
    for (int i = int(threadIdx.x) / 32; i < kFilters / kQuad * blocks; i += kThreads / 32) {
        const int filter = i / blocks * kQuad, k = i % blocks * 32 + lane;
        T v[kQuad];
#pragma unroll
        for (int f = 0; f < kQuad; ++f) {
            const T weight = from[int64_t(min(filter + f, filters - 1)) * plan.terms + min(k, plan.terms - 1)];
            v[f] = filter + f < filters && k < plan.terms ? weight : T(0);
        }
#pragma unroll
        for (int turn = 0; turn < kQuad; ++turn) {
            const int f = (turn + lane / kTurn) % kQuad;
            to[k * (kFilters + kFewChannelsPad) + filter + f] = f & 2 ? f & 1 ? v[3] : v[2] : f & 1 ? v[1] : v[0];
        }
    }
}

// The block's threads are `lanes` along filters and the others along results.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
conv_few_channels_forward_kernel(ConvShape s, Plan plan, GatherArguments x, int tiles, int width, int lanes, int fold,
                                 bool runs) {
    constexpr int kResults = kEach<T>, kPitch = kFilters + kFewChannelsPad;
    GPU_SHARED(shared);  // (2, stage), weights (terms, 64 filters and a pad), offsets of places, moments
    T* const weights = reinterpret_cast<T*>(shared + 2 * plan.stage_bytes);
    int* const places = reinterpret_cast<int*>(shared + 2 * plan.stage_bytes + plan.weight_bytes);
    T* const merged = reinterpret_cast<T*>(places + plan.padded);
    const int column = int(threadIdx.x) % lanes * kQuad, row = int(threadIdx.x) / lanes, down = kThreads / lanes;
    for (int k = int(threadIdx.x); k < plan.terms; k += kThreads) places[k] = place_offset(s, plan, k);

    const int64_t chunks = (s.filters + kFilters - 1) / kFilters;
    int64_t loaded = -1;
    each_tile(
        shared, plan, int64_t(blockIdx.x), int64_t(gridDim.x), chunks * tiles,
        [&](int64_t t, unsigned char* stage) {
            load_patch(stage, s, plan, static_cast<const T*>(x.source), tile_place(s, plan, int(t % tiles)), width);
        },
        [&](int64_t t, unsigned char* stage) {
            const int64_t filter0 = t / tiles * kFilters;
            const int filters = int(min(s.filters - filter0, int64_t(kFilters)));
            if (t / tiles != loaded) {  // those before have been read: each tile begins with a barrier
                loaded = t / tiles;
                load_weights(weights, static_cast<const T*>(x.weight) + filter0 * plan.terms, plan, filters);
                __syncthreads();
            }
            const T* const patch = reinterpret_cast<const T*>(stage);
            const int* const table = pixel_table(stage, plan);
            const TilePlace at = tile_place(s, plan, int(t % tiles));
            VectorMoments<T, kQuad> moments;
#pragma unroll 1
            for (int first = row; first < plan.pixels; first += down * kResults) {
                int pixel[kResults];  // where windows begin; those that are not real are any
#pragma unroll
                for (int i = 0; i < kResults; ++i) {
                    const int here = first + i * down;
                    pixel[i] = here < plan.pixels ? max(table[here], 0) : 0;
                }
                T totals[kResults][kQuad] = {}, sums[kResults][kQuad] = {};
#pragma unroll 1
                for (int k0 = 0; k0 < plan.terms; k0 += fold) {
#pragma unroll 2
                    for (int k = k0; k < min(k0 + fold, plan.terms); ++k) {
                        const Quad<T> w = *reinterpret_cast<const Quad<T>*>(weights + k * kPitch + column);
                        const int place = places[k];
#pragma unroll
                        for (int i = 0; i < kResults; ++i) {
                            const T seen = patch[pixel[i] + place];
#pragma unroll
                            for (int f = 0; f < kQuad; ++f) sums[i][f] += seen * w.v[f];
                        }
                    }
#pragma unroll
                    for (int i = 0; i < kResults; ++i)
#pragma unroll
                        for (int f = 0; f < kQuad; ++f) fold_into(totals[i][f], sums[i][f]);
                }
                const int valid = min(filters - column, kQuad);
                bool real[kResults];
#pragma unroll
                for (int i = 0; i < kResults; ++i) {
                    const int64_t result =
                        first + i * down < plan.pixels ? result_pixel(s, plan, at, first + i * down) : -1;
                    real[i] = result >= 0;
                    if (result < 0 || valid <= 0) continue;
                    const int64_t to = result * s.filters + filter0 + column;
                    Quad<T> before, after;
#pragma unroll
                    for (int f = 0; f < kQuad; ++f) {
                        T value = totals[i][f] + sums[i][f];
                        if (f < valid) {
                            if (x.bias) value += static_cast<const T*>(x.bias)[filter0 + column + f];
                            if (x.residual) value += static_cast<const T*>(x.residual)[to + f];
                        }
                        before.v[f] = sums[i][f] = value;
                        after.v[f] = x.activation.kind == Activation::none ? value : activate_once(x.activation, value);
                    }
                    const auto store = [&](void* array, const Quad<T>& quad) {
                        T* const target = static_cast<T*>(array) + to;
                        if (runs) {
                            *reinterpret_cast<Quad<T>*>(target) = quad;
                        } else {
#pragma unroll
                            for (int f = 0; f < kQuad; ++f)
                                if (f < valid) target[f] = quad.v[f];
                        }
                    };
                    if (x.preactivation) store(x.preactivation, before);
                    store(x.out, after);
                }
                if (x.moments) moments.include(sums, real);
            }
            if (x.moments) {
                moments.template merge<kThreads>(merged, lanes);
                if (row == 0)
                    moments.leave(tile_moments<T>(x.moments, s, int(t % tiles), filter0) + column, s.filters,
                                  filters - column);
            }
        });
}

// A thread has four filters of the gradients and a few places of the windows; sixteen have all filters of the block. Where
// there are fewer places than others, these share out the results, and their sums are added in order.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
conv_few_channels_weight_grad_kernel(ConvShape s, Plan plan, T* out, const T* grad, const T* images, int splits,
                                     int tiles, int grad_width, int width, int fold) {
    constexpr int kPlaces = kEach<T>, kLanes = kFilters / kQuad, kDown = kThreads / kLanes;
    static_assert(kPlaces * kDown == (sizeof(T) == 8 ? kFewChannelsPlaces64Bit : kFewChannelsPlaces32Bit));
    GPU_SHARED(shared);  // (2, stage), then (64, sums_pitch) sums
    const int column = int(threadIdx.x) % kLanes * kQuad, row = int(threadIdx.x) / kLanes;
    const int grad_at = plan.stage_bytes - plan.pixels * kFilters * int(sizeof(T));
    const int64_t jobs = job_count(s, plan, splits);
    for (int64_t j = blockIdx.x; j < jobs; j += gridDim.x) {
        const Job job = take_job(s, plan, splits, tiles, j);
        int across = 1;
        while (across < kDown && across * kPlaces < job.places) across *= 2;
        const int first = row % across * kPlaces, share = row / across, shares = kDown / across;
        int offset[kPlaces];
#pragma unroll
        for (int n = 0; n < kPlaces; ++n)
            offset[n] = first + n < job.places ? place_offset(s, plan, job.place0 + first + n) : 0;
        T totals[kPlaces][kQuad] = {}, sums[kPlaces][kQuad] = {};
        int until_fold = fold;
        each_tile(
            shared, plan, job.first, 1, job.last,
            [&](int t, unsigned char* stage) {
                const TilePlace at = tile_place(s, plan, t);
                load_patch(stage, s, plan, images, at, width);
                load_grad(stage + grad_at, s, plan, grad, at, job.filter0, grad_width,
                          [](int pixel, int chunk) { return pixel * kFilters * int(sizeof(T)) + chunk * 16; });
            },
            [&](int, unsigned char* stage) {
                const T* const patch = reinterpret_cast<const T*>(stage);
                const T* const sent = reinterpret_cast<const T*>(stage + grad_at) + column;
                const int* const table = pixel_table(stage, plan);
#pragma unroll 1
                for (int i = share; i < plan.pixels; i += shares) {
                    const int pixel = table[i];
                    if (pixel < 0) continue;
                    const Quad<T> d = *reinterpret_cast<const Quad<T>*>(sent + i * kFilters);
#pragma unroll
                    for (int n = 0; n < kPlaces; ++n) {
                        const T seen = patch[pixel + offset[n]];
#pragma unroll
                        for (int f = 0; f < kQuad; ++f) sums[n][f] += seen * d.v[f];
                    }
                    if (--until_fold <= 0) {
                        until_fold = fold;
#pragma unroll
                        for (int n = 0; n < kPlaces; ++n)
#pragma unroll
                            for (int f = 0; f < kQuad; ++f) fold_into(totals[n][f], sums[n][f]);
                    }
                }
            });
        T* const all = reinterpret_cast<T*>(shared);
        const auto at = [&](int filter, int k) {  // no two of a warp's 16 x 2 in a bank
            return filter * plan.sums_pitch + k + filter / (128 / int(sizeof(T))) + k / 8 * 2;
        };
#pragma unroll 1
        for (int turn = 0; turn < shares; ++turn) {
            if (turn == share) {
#pragma unroll
                for (int n = 0; n < kPlaces; ++n)
#pragma unroll
                    for (int f = 0; f < kQuad; ++f) {
                        T& to = all[at(column + f, first + n)];
                        const T sum = totals[n][f] + sums[n][f];
                        if (first + n < job.places) to = turn ? to + sum : sum;
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
    const int tiles = tile_count(s, plan);
    const int64_t chunks = (s.filters + kFilters - 1) / kFilters;
    int lanes = 1;
    while (lanes < kFilters / kQuad && lanes * kQuad < s.filters) lanes *= 2;
    const auto quads = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
    const bool runs = s.filters % kQuad == 0 && quads(x.out) && quads(x.preactivation);
    gpu::launch<conv_few_channels_forward_kernel<T>>(
        dim3(block_count(chunks * tiles, config)), dim3(kThreads), unsigned(plan.shared_bytes), stream, s, plan, x,
        tiles, copy_width(s.columns.image * s.channels, int(sizeof(T)), {x.source}), lanes, config.fold, runs);
}

template <class T>
void weight_grad(const WeightGradArguments& x, DType dtype, const ConvConfig& config, cudaStream_t stream) {
    const ConvShape& s = x.shape;
    const Plan plan = few_channels_plan({ConvDirection::weight_grad, dtype, s}, config.rows, config.columns);
    gpu::launch<conv_few_channels_weight_grad_kernel<T>>(
        dim3(block_count(job_count(s, plan, config.splits), config)), dim3(kThreads), unsigned(plan.shared_bytes),
        stream, s, plan, static_cast<T*>(x.workspace ? x.workspace : x.out), static_cast<const T*>(x.grad),
        static_cast<const T*>(x.x), config.splits, tile_count(s, plan), copy_width(s.filters, int(sizeof(T)), {x.grad}),
        copy_width(s.columns.image * s.channels, int(sizeof(T)), {x.x}), config.fold);
}

}  // namespace

void conv_few_channels_gather(const GatherArguments& x, DType dtype, const ConvConfig& config, cudaStream_t stream) {
    if (dtype == DType::float64) return forward<double>(x, dtype, config, stream);
    if (dtype == DType::float32) return forward<float>(x, dtype, config, stream);
    conv_few_channels_gather_16_bit(x, dtype, config, stream);
}

void conv_few_channels_weight_grad(const WeightGradArguments& x, DType dtype, const ConvConfig& config,
                                   cudaStream_t stream) {
    if (dtype == DType::float64) return weight_grad<double>(x, dtype, config, stream);
    if (dtype == DType::float32) return weight_grad<float>(x, dtype, config, stream);
    conv_few_channels_weight_grad_16_bit(x, dtype, config, stream);
}
