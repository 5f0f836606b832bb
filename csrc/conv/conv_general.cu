// The general convolution: every dtype, stride, padding, dilation and group, on ordinary multiply-adds.
//
// A block owns a tile of a matrix product (device/block_product.cuh) whose left operand is windows, gathered from the
// images as they are needed.
#include "../device/activation.cuh"
#include "../device/block_product.cuh"
#include "../device/moments.cuh"
#include "conv_gather.cuh"
#include <stdexcept>

namespace {

using SmallTile = ProductTile<kConvSmall, kConvSmall, 4, 4>;
using MediumTile = ProductTile<kConvMedium, kConvMedium, 8, 4>;

// Place (r, s) of the window and channel c that a thread has come to.
struct Term {
    int r, s;
    int64_t c;
    __device__ __forceinline__ void advance(int64_t by, int places_across, int64_t channels) {
        c += by;
        while (c >= channels) {
            c -= channels;
            if (++s == places_across) s = 0, ++r;
        }
    }
};

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1) conv_gather_kernel(GatherArguments x, bool vector, int fold) {
    using Sum = accumulator_t<T>;
    constexpr int kRows = Tile::kRows, kColumns = Tile::kColumns;
    GPU_SHARED(shared);
    const T* const source = static_cast<const T*>(x.source);
    const T* const weight = static_cast<const T*>(x.weight);
    const int64_t source_channels = x.groups * x.each_in, out_channels = x.groups * x.each_out;
    const QuadPlace place = quad_place<kRows>(threadIdx.x, true);  // of either operand: the tile is square

    const GatherTiles tiles = gather_tiles(x, kRows, kColumns);
    for (int64_t t = blockIdx.x; t < tiles.count; t += gridDim.x) {
        const GatherTile tile = gather_tile(x, tiles, t, kRows, kColumns);
        const GatherPhase &down = tile.down, &across = tile.across;
        const int64_t row0 = tile.row0, column0 = tile.column0, group = tile.group;
        const uint32_t pixels = tile.pixels, rows = tile.rows;
        if (row0 >= rows) continue;

        // This thread's row of windows.
        const uint32_t row = uint32_t(row0) + place.outer;
        const bool row_is_real = row < rows;
        const uint32_t image = row / pixels, pixel = row % pixels;
        const int64_t row_base = down.base + int64_t(pixel / across.positions) * down.source_step;
        const int64_t column_base = across.base + int64_t(pixel % across.positions) * across.source_step;
        const T* const images =
            source + int64_t(image) * x.rows.source * x.columns.source * source_channels + group * x.each_in;
        // And its filter.
        const int64_t column = column0 + place.outer;
        const T* const filter = weight + (group * x.each_out + column) * x.rows.window * x.columns.window * x.each_in;
        const bool column_is_real = column < x.each_out;

        const int64_t terms = int64_t(down.places) * across.places * x.each_in;
        Term at{0, 0, 0};
        if (terms) at.advance(place.k, across.places, x.each_in);
        Term weight_at = at;

        const auto window_pixel = [&](const Term& term, bool& inside) {
            const int64_t h = row_base + term.r * down.tap_step, w = column_base + term.s * across.tap_step;
            inside =
                row_is_real && term.r < down.places && h >= 0 && h < x.rows.source && w >= 0 && w < x.columns.source;
            return images + (h * x.columns.source + w) * source_channels + term.c;
        };
        const auto filter_place = [&](const Term& term, bool& inside) {
            const int64_t r = down.first_place + int64_t(term.r) * down.place_step;
            const int64_t s = across.first_place + int64_t(term.s) * across.place_step;
            inside = column_is_real && term.r < down.places;
            return filter + (r * x.columns.window + s) * x.each_in + term.c;
        };
        // A quad whose first element is that of `at`, which goes on by a step.
        const auto fetch = [&](Term& at, const auto& address) {
            Quad<T> q{};
            Term term = at;
            at.advance(kProductStep, across.places, x.each_in);
            bool inside;
            if (vector) {
                const T* const from = address(term, inside);
                if (inside) q = *reinterpret_cast<const Quad<T>*>(from);
                return q;
            }
#pragma unroll
            for (int i = 0; i < kQuad; ++i) {
                const T* const from = address(term, inside);
                if (inside) q.v[i] = *from;
                term.advance(1, across.places, x.each_in);
            }
            return q;
        };
        const auto fetch_windows = [&](int64_t) { return fetch(at, window_pixel); };
        const auto fetch_weight = [&](int64_t) { return fetch(weight_at, filter_place); };
        const Sum* const results = block_product<Tile, Sum>(shared, (terms + kProductStep - 1) / kProductStep, fold,
                                                            true, true, fetch_windows, fetch_weight);
#pragma unroll 1
        for (int i = threadIdx.x; i < kRows * kColumns; i += Tile::kThreads) {
            const uint32_t to_row = uint32_t(row0) + i / kColumns;
            const int64_t to_column = column0 + i % kColumns;
            if (to_row >= rows || to_column >= x.each_out) continue;
            const int64_t channel = group * x.each_out + to_column;
            const int64_t to = gather_pixel(x, tile, to_row) * out_channels + channel;
            Sum value = results[i];
            if (x.bias) value += convert<Sum>(static_cast<const T*>(x.bias)[channel]);
            if (x.residual) value += convert<Sum>(static_cast<const T*>(x.residual)[to]);
            if (x.preactivation) static_cast<T*>(x.preactivation)[to] = convert<T>(value);
            static_cast<T*>(x.out)[to] = convert<T>(activate(x.activation.kind, value, Sum(x.activation.parameter)));
        }
        if (x.moments) {
            ColumnMoments<Sum, kColumns, Tile::kThreads> moments(threadIdx.x);
            const int64_t columns = x.each_out - column0;
            const Sum bias =
                x.bias && moments.column < columns
                    ? convert<Sum>(static_cast<const T*>(x.bias)[group * x.each_out + column0 + moments.column])
                    : Sum(0);
            moments.see(
                kRows, [&](int row) { return uint32_t(row0) + row < rows; },
                [&](int row) { return convert<Sum>(convert<T>(results[row * kColumns + moments.column] + bias)); });
            moments.leave(gather_moments<Sum>(x, tile, row0 / kRows) + column0, x.groups * x.each_out, columns);
        }
        __syncthreads();  // the next tile's stages overwrite the results
    }
}

template <class T, class Tile>
__global__ void __launch_bounds__(Tile::kThreads, 1)
conv_weight_grad_kernel(WeightGradArguments a, int splits, int fold, bool grad_vector, bool x_vector) {
    using Sum = accumulator_t<T>;
    constexpr int kRows = Tile::kRows, kColumns = Tile::kColumns;
    GPU_SHARED(shared);
    const ConvShape& shape = a.shape;
    const ConvAxis &down = shape.rows, &across = shape.columns;
    const T* const grad = static_cast<const T*>(a.grad);
    const T* const images = static_cast<const T*>(a.x);
    const int64_t filters = shape.filters / shape.groups, channels = shape.channels / shape.groups;
    const int64_t places = int64_t(down.window) * across.window, width = places * channels;
    const int64_t pixels = shape.batch * down.out * across.out;
    // Terms of one part, a multiple of a step.
    const int64_t part = ((pixels + splits - 1) / splits + kProductStep - 1) / kProductStep * kProductStep;
    const int64_t tiles_down = (filters + kRows - 1) / kRows, tiles_across = (width + kColumns - 1) / kColumns;
    const int64_t tiles = splits * shape.groups * tiles_down * tiles_across;
    const QuadPlace place = quad_place<kRows>(threadIdx.x, false);  // of either operand: the tile is square

    for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
        int64_t rest = t;
        const int64_t column0 = rest % tiles_across * kColumns;
        rest /= tiles_across;
        const int64_t row0 = rest % tiles_down * kRows;
        rest /= tiles_down;
        const int64_t group = rest % shape.groups, split = rest / shape.groups;
        const int64_t begin = min(split * part, pixels), end = min(begin + part, pixels);

        // This thread's four filters, and the window's place and channel of its first column.
        const int64_t filter = row0 + place.outer, column = column0 + place.outer;
        const int64_t first_channel = column % channels;
        const int first_place = int(column / channels);
        // The pixel it has come to: of the results, image, row and column.
        int64_t pixel = begin + place.k;
        int64_t n = uint32_t(pixel) / (uint32_t(down.out) * uint32_t(across.out));
        const uint32_t in_image = uint32_t(pixel) % (uint32_t(down.out) * uint32_t(across.out));
        int p = int(in_image / across.out), q = int(in_image % across.out);
        int64_t grad_pixel = pixel;

        const auto fetch_grad = [&](int64_t) -> Quad<T> {
            Quad<T> quad{};
            const T* const from = grad + grad_pixel * shape.filters + group * filters + filter;
            const bool inside = grad_pixel < end;
            grad_pixel += kProductStep;
            if (inside) {
                if (grad_vector) {
                    if (filter < filters) quad = *reinterpret_cast<const Quad<T>*>(from);
                } else {
#pragma unroll
                    for (int i = 0; i < kQuad; ++i)
                        if (filter + i < filters) quad.v[i] = from[i];
                }
            }
            return quad;
        };
        const auto fetch_windows = [&](int64_t) -> Quad<T> {
            Quad<T> quad{};
            const int64_t h0 = int64_t(p) * down.stride - down.padding,
                          w0 = int64_t(q) * across.stride - across.padding;
            const T* const image = images + n * down.image * across.image * shape.channels + group * channels;
            const bool real = pixel < end;
            pixel += kProductStep;
            q += kProductStep;
            while (q >= across.out) {
                q -= across.out;
                if (++p == down.out) p = 0, ++n;
            }
            if (!real) return quad;
            int64_t c = first_channel;
            int at = first_place;
            const auto seen = [&](bool& inside) {
                const int64_t h = h0 + int64_t(at / across.window) * down.dilation;
                const int64_t w = w0 + int64_t(at % across.window) * across.dilation;
                inside = at < places && h >= 0 && h < down.image && w >= 0 && w < across.image;
                return image + (h * across.image + w) * shape.channels + c;
            };
            bool inside;
            if (x_vector) {
                const T* const from = seen(inside);
                if (inside) quad = *reinterpret_cast<const Quad<T>*>(from);
                return quad;
            }
#pragma unroll
            for (int i = 0; i < kQuad; ++i) {
                const T* const from = seen(inside);
                if (inside) quad.v[i] = *from;
                if (++c == channels) c = 0, ++at;
            }
            return quad;
        };
        const Sum* const results = block_product<Tile, Sum>(shared, (end - begin + kProductStep - 1) / kProductStep,
                                                            fold, false, false, fetch_grad, fetch_windows);
#pragma unroll 1
        for (int i = threadIdx.x; i < kRows * kColumns; i += Tile::kThreads) {
            const int64_t to_filter = row0 + i / kColumns, to_column = column0 + i % kColumns;
            if (to_filter >= filters || to_column >= width) continue;
            const int64_t c = to_column % channels, at = to_column / channels;
            const int64_t to = ((group * filters + to_filter) * channels + c) * places + at;
            if (a.workspace) static_cast<Sum*>(a.workspace)[split * shape.filters * width + to] = results[i];
            else static_cast<T*>(a.out)[to] = convert<T>(results[i]);
        }
        __syncthreads();  // the next tile's stages overwrite the results
    }
}

bool quads_fit(const void* p, int itemsize) {
    return reinterpret_cast<uintptr_t>(p) % std::min(16, itemsize * kQuad) == 0;
}

unsigned blocks_for(double tiles, const ConvConfig& config) {
    return unsigned(std::min<double>(std::max(tiles, 1.0), config.max_blocks));
}

// Calls f(type, tile) for the dtype and the config's tile.
template <class F>
void dispatch(DType dtype, const ConvConfig& config, F&& f) {
    dispatch_floating(dtype, [&](auto tag) {
        if (config.rows == kConvSmall) return f(tag, TypeTag<SmallTile>{});
        if (config.rows == kConvMedium) return f(tag, TypeTag<MediumTile>{});
        throw std::invalid_argument("conv: no kernel has this tile");
    });
}

template <class T, class Tile>
constexpr int kSharedBytes = product_shared_bytes(Tile::kRows, Tile::kColumns, Tile::kThreadRows, Tile::kThreadColumns,
                                                  int(sizeof(accumulator_t<T>)));

}  // namespace

void conv_general_gather(const GatherArguments& x, DType dtype, const ConvConfig& config, cudaStream_t stream) {
    dispatch(dtype, config, [&](auto tag, auto tile_tag) {
        using T = typename decltype(tag)::type;
        using Tile = typename decltype(tile_tag)::type;
        const bool vector = x.each_in % kQuad == 0 && quads_fit(x.source, sizeof(T)) && quads_fit(x.weight, sizeof(T));
        const GatherTiles tiles = gather_tiles(x, Tile::kRows, Tile::kColumns);
        gpu::launch<conv_gather_kernel<T, Tile>>(dim3(blocks_for(double(tiles.count), config)), dim3(Tile::kThreads),
                                                 kSharedBytes<T, Tile>, stream, x, vector, config.fold);
    });
}

void conv_general_weight_grad(const WeightGradArguments& a, DType dtype, const ConvConfig& config,
                              cudaStream_t stream) {
    dispatch(dtype, config, [&](auto tag, auto tile_tag) {
        using T = typename decltype(tag)::type;
        using Tile = typename decltype(tile_tag)::type;
        const ConvShape& shape = a.shape;
        const int64_t filters = shape.filters / shape.groups, channels = shape.channels / shape.groups;
        const bool grad_vector = filters % kQuad == 0 && quads_fit(a.grad, sizeof(T));
        const bool x_vector = channels % kQuad == 0 && quads_fit(a.x, sizeof(T));
        const double width = double(shape.rows.window) * shape.columns.window * channels;
        const double tiles =
            std::ceil(double(filters) / Tile::kRows) * std::ceil(width / Tile::kColumns) * shape.groups * config.splits;
        gpu::launch<conv_weight_grad_kernel<T, Tile>>(dim3(blocks_for(tiles, config)), dim3(Tile::kThreads),
                                                      kSharedBytes<T, Tile>, stream, a, config.splits, config.fold,
                                                      grad_vector, x_vector);
    });
}
