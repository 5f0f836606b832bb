// Convolutions on mma.sync (sm_80 and later): implicit matrix products whose operands are gathered by cp.async into the
// stages of device/mma_product.cuh, and whose results go through matmul's epilogue.
//
// Forward and input gradient (a phase of it): rows are pixels, columns filters, k is (place of the window, channel). A
// thread copies the same 16 bytes along k of several rows. Of each row it holds where its window begins and, as a bit
// each, which rows and columns of the window lie in the image; the place and channel that k has come to are the same for
// all of them.
//
// Weight gradient: rows are filters, columns (place, channel), k is pixels. A thread copies the same place and channels
// for several pixels, whose coordinates advance by a step's 32 pixels with carries. The sums over pixels are divided in
// parts that a second kernel adds in order.
//
// Channels (of a group) that do not fill 16 bytes are copied in pieces of 8, 4 or, element by element, 2 bytes, each with
// a place of its own.
#pragma once
#include "../device/mma_product.cuh"
#include "../matmul/matmul_epilogue.cuh"
#include "conv_gather.cuh"

namespace conv_sm80 {

using namespace mma_product;

// `width` bytes (16, 8, 4, or those of an element) of which `valid` are real, from global to shared memory.
template <class T>
__device__ __forceinline__ void copy_piece(unsigned char* to, const T* from, int width, int valid) {
    if (width == 16) ptx::cp_async_16_cg(to, from, valid);
    else if (width == 8) ptx::cp_async_8(to, from, valid);
    else if (width == 4) ptx::cp_async_4(to, from, valid);
    else *reinterpret_cast<T*>(to) = valid ? *from : T(0.0f);
}

// ---- forward and input gradient ------------------------------------------------------------------------------------

template <class Mine>
struct GatherLoader {
    using T = typename Mine::Element;
    static constexpr int kPer = 16 / int(sizeof(T)), kChunks = kStep / kPer, kRowStep = Mine::kThreads / kChunks;
    static constexpr int kA = Mine::kRows / kRowStep, kB = Mine::kColumns / kRowStep;  // rows a thread copies
    static_assert(kRowStep % 16 == 0 && kA >= 1 && kB >= 1, "rows of a thread are permuted alike");

    // Place (r, s) of the phase's window and channel c.
    struct Term { int r, s, c; };

    const T *source, *filters;  // of the group; of this thread's first filter and the phase's first place
    int64_t base[kA];           // of this thread's windows in source
    uint32_t down[kA], across[kA];
    int64_t row_tap, column_tap, row_place, column_place, filter_step;  // elements
    int places_down, places_across, channels;
    int filters_left, offset, width;
    Term first, at;

    __device__ __forceinline__ void advance(Term& t, int by) const {
        t.c += by;
        while (t.c >= channels) {
            t.c -= channels;
            if (++t.s == places_across) t.s = 0, ++t.r;
        }
    }

    static __device__ __forceinline__ uint32_t mask(int64_t begin, int64_t step, int places, int size) {
        uint32_t bits = 0;
#pragma unroll 1
        for (int i = 0; i < places; ++i)
            if (const int64_t at = begin + i * step; at >= 0 && at < size) bits |= 1u << i;
        return bits;
    }

    __device__ __forceinline__ GatherLoader(const GatherArguments& x, const GatherTile& tile, int width)
        : width(width) {
        const int chunk = int(threadIdx.x) % kChunks, row = int(threadIdx.x) / kChunks;
        const int64_t all = x.groups * x.each_in, filter = tile.column0 + row;
        offset = chunk_offset<T, Mine::kARow, false>(row, chunk);
        channels = int(x.each_in), places_down = tile.down.places, places_across = tile.across.places;
        source = static_cast<const T*>(x.source) + tile.group * x.each_in;
        row_tap = tile.down.tap_step * x.columns.source * all, column_tap = tile.across.tap_step * all;
        column_place = int64_t(tile.across.place_step) * x.each_in;
        row_place = int64_t(tile.down.place_step) * x.columns.window * x.each_in;
        const int64_t filter_size = int64_t(x.rows.window) * x.columns.window * x.each_in;
        filter_step = kRowStep * filter_size;
        filters_left = int(min(x.each_out - filter, int64_t(Mine::kColumns)));
        filters = static_cast<const T*>(x.weight) + (tile.group * x.each_out + filter) * filter_size +
                  (int64_t(tile.down.first_place) * x.columns.window + tile.across.first_place) * x.each_in;
#pragma unroll
        for (int i = 0; i < kA; ++i) {
            const uint32_t here = uint32_t(tile.row0) + row + i * kRowStep;
            down[i] = across[i] = 0, base[i] = 0;
            if (here >= tile.rows) continue;
            const uint32_t pixel = here % tile.pixels, p = pixel / tile.across.positions;
            const int64_t h = tile.down.base + p * tile.down.source_step;
            const int64_t w = tile.across.base + (pixel - p * tile.across.positions) * tile.across.source_step;
            base[i] = ((here / tile.pixels * int64_t(x.rows.source) + h) * x.columns.source + w) * all;
            down[i] = mask(h, tile.down.tap_step, places_down, x.rows.source);
            across[i] = mask(w, tile.across.tap_step, places_across, x.columns.source);
        }
        first = {0, 0, 0};
        if (channels && places_down && places_across) advance(first, chunk * kPer);
    }

    __device__ __forceinline__ void begin() { at = first; }

    __device__ __forceinline__ void copy(unsigned char* to, const Term& t, int bytes) const {
        const bool real = t.r < places_down;
        const int64_t tap = t.r * row_tap + t.s * column_tap + t.c;
        const int64_t place = t.r * row_place + t.s * column_place + t.c;
#pragma unroll
        for (int i = 0; i < kA; ++i) {
            const bool inside = real && (down[i] >> t.r & across[i] >> t.s & 1);
            copy_piece(to + i * kRowStep * Mine::kARow, inside ? source + base[i] + tap : source, bytes,
                       inside ? bytes : 0);
        }
#pragma unroll
        for (int j = 0; j < kB; ++j) {
            const bool inside = real && j * kRowStep < filters_left;
            copy_piece(to + Mine::kABytes + j * kRowStep * Mine::kBRow,
                       inside ? filters + j * filter_step + place : source, bytes, inside ? bytes : 0);
        }
    }

    __device__ __forceinline__ void load(unsigned char* stage) {
        if (width == 16) {
            copy(stage + offset, at, 16);
        } else {
            Term t = at;
#pragma unroll 1
            for (int byte = 0; byte < 16; byte += width) {
                copy(stage + offset + byte, t, width);
                advance(t, width / int(sizeof(T)));
            }
        }
        advance(at, kStep);
    }
};

// finish: the epilogue's arrays, of which a pixel of all results is a row.
template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross>
__global__ void __launch_bounds__(kWarpsDown * kWarpsAcross * 32, 1)
conv_sm80_gather_kernel(GatherArguments x, MatmulArguments finish, MatmulRuns runs, int width, int stages,
                        int fold_steps) {
    using Mine = Tile<T, kRows, kColumns, kWarpsDown, kWarpsAcross, false, false>;
    GPU_SHARED(shared);  // (stages, kStage), then (staged rows, kColumns) results
    const GatherTiles tiles = gather_tiles(x, kRows, kColumns);
    for (int64_t t = blockIdx.x; t < tiles.count; t += gridDim.x) {
        Mine mine;
        {
            const GatherTile tile = gather_tile(x, tiles, t, kRows, kColumns);
            if (tile.row0 >= tile.rows) continue;
            GatherLoader<Mine> loader(x, tile, width);
            const int64_t terms = int64_t(tile.down.places) * tile.across.places * x.each_in;
            multiply_steps(
                mine, shared, stages, int((terms + kStep - 1) / kStep), fold_steps, false, [&] { loader.begin(); },
                [&](int, unsigned char* stage) { loader.load(stage); }, [](const unsigned char*) {});
        }
        // Computed again: it is not held through the loop.
        const GatherTile tile = gather_tile(x, tiles, t, kRows, kColumns);
        finish_results(mine, reinterpret_cast<float*>(shared), runs.out,
                       [&](int tile_row, int tile_column, auto& value) {
                           const uint32_t row = uint32_t(tile.row0) + tile_row;
                           const int64_t column = tile.column0 + tile_column;
                           if (row >= tile.rows || column >= x.each_out) return;
                           matmul_finish_run<T>(finish, runs, MatmulOffsets{}, 0, gather_pixel(x, tile, row),
                                                tile.group * x.each_out + column, value);
                       });
        __syncthreads();  // the next tile's copies overwrite the results
    }
}

// The widest copies, in bytes, that neighbours in these arrays allow: 16, 8, 4, or those of an element.
inline int copy_width(int64_t channels, int item, std::initializer_list<const void*> arrays) {
    uintptr_t bits = uintptr_t(channels) * item | 16;
    for (const void* p : arrays) bits |= reinterpret_cast<uintptr_t>(p);
    return int(bits & -bits);
}

template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross>
void launch_gather(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream) {
    MatmulArguments finish{};
    finish.out = x.out, finish.preactivation = x.preactivation, finish.bias = x.bias, finish.bias_stride = 1;
    finish.n = x.groups * x.each_out, finish.m = 1, finish.alpha = 1, finish.activation = x.activation;
    finish.residual = {x.residual, finish.n, 1, {}, false};
    // A run lies in one group, and in rows that begin at multiples of it.
    MatmulRuns runs = matmul_runs<T, kRun<T>>(finish);
    runs.out = runs.out && x.each_out % kRun<T> == 0;
    const int64_t blocks = std::min<int64_t>(gather_tiles(x, kRows, kColumns).count, config.max_blocks);
    gpu::launch<conv_sm80_gather_kernel<T, kRows, kColumns, kWarpsDown, kWarpsAcross>>(
        dim3(unsigned(blocks)), dim3(kWarpsDown * kWarpsAcross * 32),
        unsigned(mma_shared_bytes(kRows, kColumns, config.stages, int(sizeof(T)))), stream, x, finish, runs,
        copy_width(x.each_in, int(sizeof(T)), {x.source, x.weight}), config.stages, config.fold / kStep);
}

// ---- weight gradient -----------------------------------------------------------------------------------------------

template <class Mine>
struct WeightGradLoader {
    using T = typename Mine::Element;
    static constexpr int kPer = 16 / int(sizeof(T));
    static constexpr int kAChunks = Mine::kARow / 16, kAStep = Mine::kThreads / kAChunks, kA = kStep / kAStep;
    static constexpr int kBChunks = Mine::kBRow / 16, kBStep = Mine::kThreads / kBChunks, kB = kStep / kBStep;
    static_assert(kA >= 1 && kB >= 1);

    const T *grad, *images;  // of this thread's first filter; of the group
    ConvShape shape;
    int64_t pixel, end;  // of all results: the step's first, and one behind the part's last
    int a_row, b_row, a_chunk, b_chunk, filters_left, column, columns, channels;
    int n[kB], p[kB], q[kB];        // of this thread's pixels
    int step_n, step_p, step_q;     // a step of pixels
    int first_h, first_w, first_c;  // of this thread's first place and channel, from where a window begins
    int a_width, b_width;

    __device__ __forceinline__ WeightGradLoader(const WeightGradArguments& x, int64_t group, int64_t row0,
                                                int64_t column0, int a_width, int b_width)
        : shape(x.shape), a_width(a_width), b_width(b_width) {
        const int64_t filters = shape.filters / shape.groups;
        channels = int(shape.channels / shape.groups);
        columns = shape.rows.window * shape.columns.window * channels;
        a_row = int(threadIdx.x) / kAChunks, a_chunk = int(threadIdx.x) % kAChunks;
        b_row = int(threadIdx.x) / kBChunks, b_chunk = int(threadIdx.x) % kBChunks;
        grad = static_cast<const T*>(x.grad) + group * filters + row0 + a_chunk * kPer;
        filters_left = int(max(min(filters - row0 - a_chunk * kPer, int64_t(kPer)), int64_t(0)));
        images = static_cast<const T*>(x.x) + group * channels;
        column = int(column0) + b_chunk * kPer;
        place(column, first_h, first_w, first_c);
        const int per_image = shape.rows.out * shape.columns.out;
        step_n = kStep / per_image, step_p = kStep % per_image / shape.columns.out, step_q = kStep % shape.columns.out;
    }

    // Column i's place from where a window begins, and its channel.
    __device__ __forceinline__ void place(int i, int& h, int& w, int& c) const {
        const int at = i / channels, r = at / shape.columns.window, s = at % shape.columns.window;
        c = i % channels;
        h = r * shape.rows.dilation - shape.rows.padding, w = s * shape.columns.dilation - shape.columns.padding;
    }

    __device__ __forceinline__ void begin(int64_t first, int64_t last) {
        pixel = first, end = last;
        const uint32_t per_image = uint32_t(shape.rows.out) * uint32_t(shape.columns.out);
#pragma unroll
        for (int i = 0; i < kB; ++i) {
            const int64_t here = first + b_row + i * kBStep;
            const uint32_t in_image = uint32_t(here % per_image);
            n[i] = int(here / per_image), p[i] = int(in_image / shape.columns.out),
            q[i] = int(in_image % shape.columns.out);
        }
    }

    __device__ __forceinline__ void
    copy_windows(unsigned char* to, int byte, int h0, int w0, int c, bool real, int bytes) const {
#pragma unroll
        for (int i = 0; i < kB; ++i) {
            const int64_t h = int64_t(p[i]) * shape.rows.stride + h0, w = int64_t(q[i]) * shape.columns.stride + w0;
            const bool inside = real && pixel + b_row + i * kBStep < end && h >= 0 && h < shape.rows.image && w >= 0 &&
                                w < shape.columns.image;
            const T* const from =
                images + ((int64_t(n[i]) * shape.rows.image + h) * shape.columns.image + w) * shape.channels + c;
            copy_piece(to + chunk_offset<T, Mine::kBRow, true>(b_row + i * kBStep, b_chunk) + byte,
                       inside ? from : images, bytes, inside ? bytes : 0);
        }
    }

    __device__ __forceinline__ void load(unsigned char* stage) {
#pragma unroll
        for (int i = 0; i < kA; ++i) {
            const int row = a_row + i * kAStep;
            const bool inside = pixel + row < end;
            unsigned char* const to = stage + chunk_offset<T, Mine::kARow, true>(row, a_chunk);
            const T* const from = grad + (pixel + row) * shape.filters;
            const int valid = inside ? filters_left * int(sizeof(T)) : 0;
            if (a_width == 16) {
                copy_piece(to, valid ? from : grad, 16, valid);
            } else {
#pragma unroll 1
                for (int byte = 0; byte < 16; byte += a_width)
                    copy_piece(to + byte, byte < valid ? from + byte / int(sizeof(T)) : grad, a_width,
                               byte < valid ? a_width : 0);
            }
        }
        stage += Mine::kABytes;
        if (b_width == 16) {
            copy_windows(stage, 0, first_h, first_w, first_c, column < columns, 16);
        } else {
#pragma unroll 1
            for (int byte = 0; byte < 16; byte += b_width) {
                int h, w, c;
                place(column + byte / int(sizeof(T)), h, w, c);
                copy_windows(stage, byte, h, w, c, column + byte / int(sizeof(T)) < columns, b_width);
            }
        }
        pixel += kStep;
#pragma unroll
        for (int i = 0; i < kB; ++i) {
            q[i] += step_q, p[i] += step_p, n[i] += step_n;
            if (q[i] >= shape.columns.out) q[i] -= shape.columns.out, ++p[i];
            if (p[i] >= shape.rows.out) p[i] -= shape.rows.out, ++n[i];
        }
    }
};

// Sums go to out (filters, channels / groups, R, S) or, a part each, to the workspace (splits, filters, R, S, channels /
// groups), which conv_sm80_sum_kernel adds up.
template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross>
__global__ void __launch_bounds__(kWarpsDown * kWarpsAcross * 32, 1)
conv_sm80_weight_grad_kernel(WeightGradArguments x, int splits, int a_width, int b_width, bool runs, int stages,
                             int fold_steps) {
    using Mine = Tile<T, kRows, kColumns, kWarpsDown, kWarpsAcross, true, true>;
    GPU_SHARED(shared);  // (stages, kStage), then (staged rows, kColumns) results
    const ConvShape& shape = x.shape;
    const int64_t filters = shape.filters / shape.groups, channels = shape.channels / shape.groups;
    const int places = shape.rows.window * shape.columns.window;
    const int64_t columns = places * channels, pixels = shape.batch * shape.rows.out * shape.columns.out;
    const int64_t part = ((pixels + splits - 1) / splits + kStep - 1) / kStep * kStep;
    const int64_t tiles_down = (filters + kRows - 1) / kRows, tiles_across = (columns + kColumns - 1) / kColumns;
    const int64_t tiles = splits * shape.groups * tiles_down * tiles_across;
    for (int64_t t = blockIdx.x; t < tiles; t += gridDim.x) {
        int64_t rest = t;
        const int64_t column0 = rest % tiles_across * kColumns;
        rest /= tiles_across;
        const int64_t row0 = rest % tiles_down * kRows;
        rest /= tiles_down;
        const int64_t group = rest % shape.groups, split = rest / shape.groups;
        const int64_t first = min(split * part, pixels), last = min(first + part, pixels);

        Mine mine;
        WeightGradLoader<Mine> loader(x, group, row0, column0, a_width, b_width);
        multiply_steps(
            mine, shared, stages, int((last - first + kStep - 1) / kStep), fold_steps, false,
            [&] { loader.begin(first, last); }, [&](int, unsigned char* stage) { loader.load(stage); },
            [](const unsigned char*) {});
        finish_results(mine, reinterpret_cast<float*>(shared), runs, [&](int tile_row, int tile_column, auto& value) {
            const int64_t row = row0 + tile_row, column = column0 + tile_column;
            if (row >= filters || column >= columns) return;
            const int64_t filter = group * filters + row;
            if (x.workspace)
                return store_run(static_cast<float*>(x.workspace) + (split * shape.filters + filter) * columns + column,
                                 value);
            // Runs are of windows of one place.
            store_run(static_cast<T*>(x.out) + (filter * channels + column % channels) * places + column / channels,
                      value);
        });
        __syncthreads();  // the next tile's copies overwrite the results
    }
}

// The parts of every sum, added in order: a block takes one filter and `some` channels, whose places become neighbours on
// the way through shared memory, so that both reads and writes are of neighbours.
template <class T>
__global__ void __launch_bounds__(256)
conv_sm80_sum_kernel(T* out, const float* workspace, int splits, int64_t filters, int channels, int places, int some) {
    GPU_SHARED(shared);
    float* const sums = reinterpret_cast<float*>(shared);  // (some, places)
    const int channel0 = int(blockIdx.x) * some, here = min(some, channels - channel0);
    const int64_t part = filters * places * channels;
    for (int64_t filter = blockIdx.y; filter < filters; filter += gridDim.y) {
        const float* const from = workspace + filter * places * channels + channel0;
        for (int i = int(threadIdx.x); i < here * places; i += int(blockDim.x)) {
            const int place = i / here, channel = i % here;
            const float* const first = from + int64_t(place) * channels + channel;
            float total = 0, rest = 0;
#pragma unroll 4
            for (int s = 0; s < splits; ++s) rest += first[s * part], fold_into(total, rest);
            sums[channel * places + place] = total + rest;
        }
        __syncthreads();
        T* const to = out + (filter * channels + channel0) * places;
        for (int i = int(threadIdx.x); i < here * places; i += int(blockDim.x)) to[i] = convert<T>(sums[i]);
        __syncthreads();  // the next sums overwrite these
    }
}

template <class T, int kRows, int kColumns, int kWarpsDown, int kWarpsAcross>
void launch_weight_grad(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream) {
    const ConvShape& shape = x.shape;
    const int item = int(sizeof(T)), places = shape.rows.window * shape.columns.window;
    const int64_t filters = shape.filters / shape.groups, channels = shape.channels / shape.groups;
    const int64_t columns = places * channels;
    const int64_t tiles =
        (filters + kRows - 1) / kRows * ((columns + kColumns - 1) / kColumns) * shape.groups * config.splits;
    // Sums are stored one by one: a warp's are neighbours, where runs would each fill half of a sector at a time.
    const bool runs =
        !x.workspace && columns % kRun<T> == 0 && places == 1 && reinterpret_cast<uintptr_t>(x.out) % 16 == 0;
    gpu::launch<conv_sm80_weight_grad_kernel<T, kRows, kColumns, kWarpsDown, kWarpsAcross>>(
        dim3(unsigned(std::min<int64_t>(tiles, config.max_blocks))), dim3(kWarpsDown * kWarpsAcross * 32),
        unsigned(mma_shared_bytes(kRows, kColumns, config.stages, item)), stream, x, config.splits,
        copy_width(filters, item, {x.grad}), copy_width(channels, item, {x.x}), runs, config.stages,
        config.fold / kStep);
    if (!x.workspace) return;
    // Sixteen neighbours are two sectors; more where that leaves threads without work.
    const int some = std::max(16, 256 / places / 16 * 16);
    gpu::launch<conv_sm80_sum_kernel<T>>(
        dim3(unsigned((channels + some - 1) / some), unsigned(std::min<int64_t>(shape.filters, 65535))), dim3(256),
        unsigned(some * places * 4), stream, static_cast<T*>(x.out), static_cast<const float*>(x.workspace),
        config.splits, shape.filters, int(channels), places, some);
}

}  // namespace conv_sm80
