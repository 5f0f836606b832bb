// Depthwise convolutions: every group has one channel, so that there is no product of matrices, and memory decides.
//
// A block's threads are `lanes` along channels, each with 16 bytes of them where channels and filters are the same and lie
// so (else with one), and 128 / lanes along pixels. Weights pass through shared memory once for many pixels; images come
// from global memory and, where windows overlap, from the L1.
#include "../device/activation.cuh"
#include "../device/block_product.cuh"
#include "../device/moments.cuh"
#include "../device/vector.cuh"
#include "conv_gather.cuh"
#include <algorithm>
#include <type_traits>

namespace {

constexpr int kThreads = kConvDepthwiseThreads, kPixels = kConvDepthwisePixels, kRepeats = kConvDepthwiseRepeats;
constexpr int kPlaces = kConvDepthwisePlaces;
constexpr int kFoldPixels = 16;  // after which running sums are added to totals

// Neighbouring sums of a lane that are one access of shared memory. Those of all lanes lie together, so that a quarter of
// a warp reads 32 banks: piece p of a lane's kVec at (p, lane).
template <class Sum, int kVec>
constexpr int kPiece = std::min(kVec, 16 / int(sizeof(Sum)));

template <class T, int kVec, class Sum>
__device__ __forceinline__ void load_sums(Sum (&to)[kVec], const T* from) {
    const Vector<T, kVec> v = load_vector<kVec>(from);
#pragma unroll
    for (int i = 0; i < kVec; ++i) to[i] = convert<Sum>(v[i]);
}

template <class T, int kVec, class Sum>
__device__ __forceinline__ void store_sums(T* to, const Sum (&from)[kVec]) {
    Vector<T, kVec> v;
#pragma unroll
    for (int i = 0; i < kVec; ++i) v[i] = convert<T>(from[i]);
    store_vector(to, v);
}

// all: x with its groups as the channels of one, by which its tiles are counted.
template <class T, int kVec>
__global__ void __launch_bounds__(kThreads, 3)
conv_depthwise_gather_kernel(GatherArguments all, int each_in, int each_out, int lanes) {
    using Sum = accumulator_t<T>;
    GPU_SHARED(shared);
    Sum* const weights = reinterpret_cast<Sum*>(shared);  // (places, each_in, channels of the block by pieces)
    constexpr int kRun = kPiece<Sum, kVec>;
    const int lane = int(threadIdx.x) % lanes, row = int(threadIdx.x) / lanes, threads_down = kThreads / lanes;
    const int channels_here = lanes * kVec, rows_here = threads_down * kPixels * kRepeats;
    const int places = all.rows.window * all.columns.window;
    const int64_t source_channels = all.each_out / each_out * each_in;
    Sum* const seen_before =
        weights + places * each_in * channels_here;  // moments of each thread, not held in registers
    const T* const source = static_cast<const T*>(all.source);
    const GatherTiles tiles = gather_tiles(all, rows_here, channels_here);
    for (int64_t t = blockIdx.x; t < tiles.count; t += gridDim.x) {
        const GatherTile tile = gather_tile(all, tiles, t, rows_here, channels_here);
        const GatherPhase &down = tile.down, &across = tile.across;
        if (tile.row0 >= tile.rows) continue;
        for (int i = int(threadIdx.x); i < places * each_in * channels_here; i += kThreads) {
            const int at = i % channels_here, piece = at / (lanes * kRun), in_piece = at % (lanes * kRun);
            const int64_t channel = tile.column0 + in_piece / kRun * kVec + piece * kRun + in_piece % kRun;
            const T* const weight = static_cast<const T*>(all.weight) + channel * places * each_in;
            weights[i] = channel < all.each_out ? convert<Sum>(weight[i / channels_here]) : Sum(0);
        }
        __syncthreads();
        const int64_t channel = tile.column0 + lane * kVec;
        const int64_t source_channel = channel / each_out * each_in;
        for (int repeat = 0; channel < all.each_out && repeat < kRepeats; ++repeat) {
            const int64_t first = tile.row0 + (int64_t(repeat) * threads_down + row) * kPixels;
            const T* images[kPixels];
            int64_t h0[kPixels], w0[kPixels];
#pragma unroll
            for (int i = 0; i < kPixels; ++i) {
                const uint32_t here = uint32_t(min(first + i, int64_t(tile.rows) - 1)), pixel = here % tile.pixels;
                h0[i] = down.base + int64_t(pixel / across.positions) * down.source_step;
                w0[i] = across.base + int64_t(pixel % across.positions) * across.source_step;
                images[i] = source +
                            int64_t(here / tile.pixels) * all.rows.source * all.columns.source * source_channels +
                            source_channel;
            }
            Sum totals[kPixels][kVec] = {};
#pragma unroll 1
            for (int r = 0; r < down.places; ++r) {
                Sum sums[kPixels][kVec] = {};  // of a row of the window: sums of sums round less
#pragma unroll 1
                for (int s = 0; s < across.places; ++s) {
                    const int place = (down.first_place + r * down.place_step) * all.columns.window +
                                      across.first_place + s * across.place_step;
                    const Sum* const weight = weights + place * each_in * channels_here + lane * kRun;
#pragma unroll 1
                    for (int j = 0; j < each_in; ++j) {
                        Sum w[kVec];
#pragma unroll
                        for (int v = 0; v < kVec; v += kRun) {
                            const Vector<Sum, kRun> run = load_vector<kRun>(weight + j * channels_here + v * lanes);
#pragma unroll
                            for (int k = 0; k < kRun; ++k) w[v + k] = run[k];
                        }
#pragma unroll
                        for (int i = 0; i < kPixels; ++i) {
                            const int64_t y = h0[i] + r * down.tap_step, x = w0[i] + s * across.tap_step;
                            if (y < 0 || y >= all.rows.source || x < 0 || x >= all.columns.source) continue;
                            Sum seen[kVec];
                            load_sums<T, kVec>(seen, images[i] + (y * all.columns.source + x) * source_channels + j);
#pragma unroll
                            for (int v = 0; v < kVec; ++v) sums[i][v] += w[v] * seen[v];
                        }
                    }
                }
#pragma unroll
                for (int i = 0; i < kPixels; ++i)
#pragma unroll
                    for (int v = 0; v < kVec; ++v) totals[i][v] += sums[i][v];
            }
#pragma unroll
            for (int i = 0; i < kPixels; ++i) {
                if (first + i >= tile.rows) continue;
                const int64_t to = gather_pixel(all, tile, uint32_t(first + i)) * all.each_out + channel;
                Sum more[kVec];
                if (all.bias) {
                    load_sums<T, kVec>(more, static_cast<const T*>(all.bias) + channel);
#pragma unroll
                    for (int v = 0; v < kVec; ++v) totals[i][v] += more[v];
                }
                if (all.residual) {
                    load_sums<T, kVec>(more, static_cast<const T*>(all.residual) + to);
#pragma unroll
                    for (int v = 0; v < kVec; ++v) totals[i][v] += more[v];
                }
                if (all.preactivation) store_sums<T, kVec>(static_cast<T*>(all.preactivation) + to, totals[i]);
                if (all.activation.kind != Activation::none) {
#pragma unroll
                    for (int v = 0; v < kVec; ++v) totals[i][v] = activate_once(all.activation, totals[i][v]);
                }
                store_sums<T, kVec>(static_cast<T*>(all.out) + to, totals[i]);
            }
            if (all.moments) {
                bool real[kPixels];
#pragma unroll
                for (int i = 0; i < kPixels; ++i) {
                    real[i] = first + i < tile.rows;
#pragma unroll
                    for (int v = 0; v < kVec; ++v) totals[i][v] = convert<Sum>(convert<T>(totals[i][v]));
                }
                VectorMoments<Sum, kVec> moments;
                if (repeat) moments.take(seen_before + threadIdx.x, kThreads);
                moments.include(totals, real);
                moments.put(seen_before + threadIdx.x, kThreads);
            }
        }
        VectorMoments<Sum, kVec> moments;
        if (all.moments && channel < all.each_out) moments.take(seen_before + threadIdx.x, kThreads);
        __syncthreads();  // others' moments, and the next tile's weights, overwrite these
        if (all.moments) {
            moments.template merge<kThreads>(seen_before, lanes);
            const int valid = int(min(all.each_out - channel, int64_t(kVec)));
            if (row == 0)
                moments.leave(gather_moments<Sum>(all, tile, tile.row0 / rows_here) + channel, all.each_out, valid);
        }
    }
}

// Sums over a part of the pixels go to `to` (splits, filters, R, S): out itself, or the workspace of sums.
template <class T, int kVec, class To>
__global__ void __launch_bounds__(kThreads, 1)
conv_depthwise_weight_grad_kernel(WeightGradArguments a, To* to, int splits, int lanes, int staged_places) {
    using Sum = accumulator_t<T>;
    GPU_SHARED(shared);
    Sum* const parts = reinterpret_cast<Sum*>(shared);  // (threads along pixels, filters of the block)
    Sum* const staged = parts + kThreads * kVec;        // (filters of the block, an odd number of places)
    const int pitch = staged_places | 1;
    const ConvShape& shape = a.shape;
    const ConvAxis down = shape.rows, across = shape.columns;
    const int lane = int(threadIdx.x) % lanes, row = int(threadIdx.x) / lanes, threads_down = kThreads / lanes;
    const int filters_here = lanes * kVec, places = down.window * across.window;
    const int64_t each = shape.filters / shape.channels, chunks = (shape.filters + filters_here - 1) / filters_here;
    const int64_t pixels = shape.batch * down.out * across.out, part = (pixels + splits - 1) / splits;
    const uint32_t per_image = uint32_t(down.out) * uint32_t(across.out);
    for (int64_t chunk = blockIdx.x, split = blockIdx.y; chunk < chunks;) {
        const int64_t filter0 = chunk * filters_here, filter = filter0 + lane * kVec;
        const int64_t begin = min(split * part, pixels), end = min(begin + part, pixels);
        const T* const grad = static_cast<const T*>(a.grad) + filter;
        const T* const images = static_cast<const T*>(a.x) + filter / each;
#pragma unroll 1
        for (int place0 = 0; place0 < places; place0 += kPlaces) {
            Sum totals[kPlaces][kVec] = {}, sums[kPlaces][kVec] = {};
            int until_fold = kFoldPixels;
            const int64_t last = filter < shape.filters ? end : begin;
#pragma unroll 1
            for (int64_t pixel = begin + row; pixel < last; pixel += threads_down) {
                const uint32_t number = uint32_t(pixel) / per_image, in_image = uint32_t(pixel) % per_image;
                const int64_t h0 = int64_t(in_image / uint32_t(across.out)) * down.stride - down.padding;
                const int64_t w0 = int64_t(in_image % uint32_t(across.out)) * across.stride - across.padding;
                const T* const image = images + int64_t(number) * down.image * across.image * shape.channels;
                Sum sent[kVec];
                load_sums<T, kVec>(sent, grad + pixel * shape.filters);
                int r = place0 / across.window, s = place0 % across.window;
#pragma unroll
                for (int i = 0; i < kPlaces; ++i) {
                    const int64_t h = h0 + int64_t(r) * down.dilation, w = w0 + int64_t(s) * across.dilation;
                    if (r < down.window && h >= 0 && h < down.image && w >= 0 && w < across.image) {
                        Sum seen[kVec];
                        load_sums<T, kVec>(seen, image + (h * across.image + w) * shape.channels);
#pragma unroll
                        for (int v = 0; v < kVec; ++v) sums[i][v] += sent[v] * seen[v];
                    }
                    if (++s == across.window) s = 0, ++r;
                }
                if (--until_fold == 0) {
                    until_fold = kFoldPixels;
#pragma unroll
                    for (int i = 0; i < kPlaces; ++i)
#pragma unroll
                        for (int v = 0; v < kVec; ++v) fold_into(totals[i][v], sums[i][v]);
                }
            }
#pragma unroll
            for (int i = 0; i < kPlaces; ++i) {
                if (place0 + i >= places) break;
                Vector<Sum, kVec> mine;
#pragma unroll
                for (int v = 0; v < kVec; ++v) mine[v] = totals[i][v] + sums[i][v];
                store_vector(parts + row * filters_here + lane * kVec, mine);
                __syncthreads();
                for (int f = int(threadIdx.x); f < filters_here; f += kThreads) {
                    Sum total = 0, rest = 0;
                    for (int from = 0; from < threads_down; ++from)
                        rest += parts[from * filters_here + f], fold_into(total, rest);
                    staged[f * pitch + (place0 + i) % staged_places] = total + rest;
                }
                __syncthreads();  // the next place's sums overwrite these
            }
            // A filter's places leave together, all of them where they fit: the next to be staged are behind a barrier.
            const int first = place0 / staged_places * staged_places, last_place = min(place0 + kPlaces, places);
            if (last_place < min(first + staged_places, places)) continue;
            const int here = last_place - first, filters = int(min(shape.filters - filter0, int64_t(filters_here)));
            for (int i = int(threadIdx.x); i < filters * here; i += kThreads) {
                const int f = i / here, place = i - f * here;
                to[(split * shape.filters + filter0 + f) * places + first + place] =
                    convert<To>(staged[f * pitch + place]);
            }
        }
        if (split += gridDim.y; split >= splits) split = blockIdx.y, chunk += gridDim.x;
    }
}

template <class T>
constexpr int kVector = 16 / int(sizeof(T));
// Two sums of eight neighbours for nine places would not fit the registers.
template <class T>
constexpr int kGradVector = std::min(4, kVector<T>);

unsigned blocks_of(int64_t count, const ConvConfig& config) {
    return unsigned(std::clamp<int64_t>(count, 1, config.max_blocks));
}

}  // namespace

void conv_depthwise_gather(const GatherArguments& x, DType dtype, const ConvConfig& config, cudaStream_t stream) {
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        GatherArguments all = x;
        all.groups = 1, all.each_out = x.groups * x.each_out;
        const int lanes = config.columns, places = x.rows.window * x.columns.window;
        const auto launch = [&](auto vector) {
            constexpr int kVec = decltype(vector)::value;
            const int64_t tiles = gather_tiles(all, kThreads / lanes * kPixels * kRepeats, lanes * kVec).count;
            const int64_t moments = x.moments ? kThreads * VectorMoments<accumulator_t<T>, kVec>::kFields : 0;
            const int64_t bytes =
                (int64_t(places) * x.each_in * lanes * kVec + moments) * int(sizeof(accumulator_t<T>));
            gpu::launch<conv_depthwise_gather_kernel<T, kVec>>(dim3(blocks_of(tiles, config)), dim3(kThreads),
                                                               unsigned(bytes), stream, all, int(x.each_in),
                                                               int(x.each_out), lanes);
        };
        const bool vector = x.each_in == 1 && x.each_out == 1 && x.groups % kVector<T> == 0 &&
                            aligned_for<kVector<T>>(static_cast<const T*>(x.source)) &&
                            aligned_for<kVector<T>>(static_cast<const T*>(x.out)) &&
                            aligned_for<kVector<T>>(static_cast<const T*>(x.bias)) &&
                            aligned_for<kVector<T>>(static_cast<const T*>(x.residual)) &&
                            aligned_for<kVector<T>>(static_cast<const T*>(x.preactivation));
        if (vector) return launch(std::integral_constant<int, kVector<T>>());
        launch(std::integral_constant<int, 1>());
    });
}

void conv_depthwise_weight_grad(const WeightGradArguments& x, DType dtype, const ConvConfig& config,
                                cudaStream_t stream) {
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using Sum = accumulator_t<T>;
        const int lanes = config.columns;
        const auto launch = [&](auto vector, auto* to) {
            using To = std::remove_pointer_t<decltype(to)>;
            constexpr int kVec = decltype(vector)::value;
            const int64_t chunks = (x.shape.filters + lanes * kVec - 1) / (lanes * kVec);
            const int down = std::min(config.splits, config.max_blocks);
            const int64_t across = std::clamp<int64_t>(chunks, 1, std::max(1, config.max_blocks / down));
            const int64_t places = int64_t(x.shape.rows.window) * x.shape.columns.window;
            const auto staged_bytes = [&](int64_t p) { return lanes * kVec * (p | 1) * int64_t(sizeof(Sum)); };
            const int staged = staged_bytes(places) <= kConvDepthwiseStagedBytes ? int(places) : kPlaces;
            gpu::launch<conv_depthwise_weight_grad_kernel<T, kVec, To>>(
                dim3(unsigned(across), unsigned(down)), dim3(kThreads),
                unsigned(kThreads * kVec * int64_t(sizeof(Sum)) + staged_bytes(staged)), stream, x, to, config.splits,
                lanes, staged);
        };
        const bool vector = x.shape.filters == x.shape.channels && x.shape.channels % kGradVector<T> == 0 &&
                            aligned_for<kGradVector<T>>(static_cast<const T*>(x.grad)) &&
                            aligned_for<kGradVector<T>>(static_cast<const T*>(x.x));
        const auto run = [&](auto* to) {
            if (vector) return launch(std::integral_constant<int, kGradVector<T>>(), to);
            launch(std::integral_constant<int, 1>(), to);
        };
        if (x.workspace) return run(static_cast<Sum*>(x.workspace));
        run(static_cast<T*>(x.out));
    });
}
