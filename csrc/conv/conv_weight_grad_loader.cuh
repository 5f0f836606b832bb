// The weight's gradient on tensor cores: how operands come into the stages of a block, and where its sums go.
//
// A product's rows are filters, its columns (place, channel), k is pixels. A thread copies the same place and channels for
// several pixels, whose coordinates advance with carries. The sums over pixels are divided in parts that a second kernel
// adds in order.
#pragma once
#include "../device/block_product.cuh"
#include "../device/staged_results.cuh"
#include "conv_gather_loader.cuh"

// A tile of one part of one group's product.
struct WeightGradTile {
    int64_t row0, column0, group, split;
    int64_t first, last;  // pixels of all results

    __device__ __forceinline__ int steps(int step) const { return int((last - first + step - 1) / step); }
};

// How the sums of a launch are divided in tiles and parts; a part begins at a multiple of a step of pixels.
struct WeightGradTiles {
    int64_t filters, channels, columns, pixels, part, down, across, count;
    int places;

    __host__ __device__ WeightGradTiles(const ConvShape& s, int splits, int rows, int columns_of_tile, int step) {
        filters = s.filters / s.groups, channels = s.channels / s.groups;
        places = s.rows.window * s.columns.window;
        columns = places * channels, pixels = s.batch * s.rows.out * s.columns.out;
        part = ((pixels + splits - 1) / splits + step - 1) / step * step;
        down = (filters + rows - 1) / rows, across = (columns + columns_of_tile - 1) / columns_of_tile;
        count = splits * s.groups * down * across;
    }
    __device__ __forceinline__ WeightGradTile take(int64_t t, const ConvShape& s, int rows, int columns_of_tile) const {
        WeightGradTile tile;
        tile.column0 = t % across * columns_of_tile;
        t /= across;
        tile.row0 = t % down * rows;
        t /= down;
        tile.group = t % s.groups, tile.split = t / s.groups;
        tile.first = min(tile.split * part, pixels), tile.last = min(tile.first + part, pixels);
        return tile;
    }
};

// Stage: a stage of the block's tile, in which both operands lie as rows of filters or columns, one for each pixel:
//   Element, kStep (pixels), kThreads (that copy), kRows, kColumns, kABytes (before b),
//   a_offset(pixel, chunk) and b_offset(pixel, chunk) of 16 bytes.
template <class Stage>
struct WeightGradLoader {
    using T = typename Stage::Element;
    static constexpr int kPer = 16 / int(sizeof(T));
    static constexpr int kAChunks = Stage::kRows / kPer, kAStep = Stage::kThreads / kAChunks,
                         kA = Stage::kStep / kAStep;
    static constexpr int kBChunks = Stage::kColumns / kPer, kBStep = Stage::kThreads / kBChunks,
                         kB = Stage::kStep / kBStep;
    static_assert(kA >= 1 && kB >= 1);

    const T *grad, *images;  // of this thread's first filter; of the group
    ConvShape shape;
    int pixel, left;  // of all results: the step's first, and how many the part has from there on
    int a_row, b_row, a_chunk, b_chunk, filters_left, column, columns, channels;
    // Where the window of this thread's next pixel begins in its image, before padding, and that pixel of all images; all
    // modulo 2^32, as what lies outside is not read.
    uint32_t h, w, at;
    uint32_t step_h, step_w, step_at;  // to the next pixel, where no row ends
    int first_h, first_w, first_c;     // of this thread's first place and channel, from there
    int a_width, b_width;

    __device__ __forceinline__ WeightGradLoader(const WeightGradArguments& x, const WeightGradTile& tile, int a_width,
                                                int b_width)
        : shape(x.shape), a_width(a_width), b_width(b_width) {
        const int64_t filters = shape.filters / shape.groups;
        channels = int(shape.channels / shape.groups);
        columns = shape.rows.window * shape.columns.window * channels;
        a_row = int(threadIdx.x) / kAChunks, a_chunk = int(threadIdx.x) % kAChunks;
        b_row = int(threadIdx.x) / kBChunks, b_chunk = int(threadIdx.x) % kBChunks;
        grad = static_cast<const T*>(x.grad) + tile.group * filters + tile.row0 + a_chunk * kPer;
        filters_left = int(max(min(filters - tile.row0 - a_chunk * kPer, int64_t(kPer)), int64_t(0)));
        images = static_cast<const T*>(x.x) + tile.group * channels;
        column = int(tile.column0) + b_chunk * kPer;
        place(column, first_h, first_w, first_c);
        pixel_of(kBStep, step_h, step_w, step_at);
    }

    // Pixel i of all results, as h, w and at.
    __device__ __forceinline__ void pixel_of(int64_t i, uint32_t& h, uint32_t& w, uint32_t& at) const {
        const uint32_t per_row = uint32_t(shape.columns.out), per_image = uint32_t(shape.rows.out) * per_row;
        const uint32_t image = uint32_t(i / per_image), in_image = uint32_t(i % per_image);
        h = in_image / per_row * shape.rows.stride, w = in_image % per_row * shape.columns.stride;
        at = (image * shape.rows.image + h) * shape.columns.image + w;
    }

    // Column i's place from where a window begins, and its channel.
    __device__ __forceinline__ void place(int i, int& h, int& w, int& c) const {
        const int at = i / channels, r = at / shape.columns.window, s = at % shape.columns.window;
        c = i % channels;
        h = r * shape.rows.dilation - shape.rows.padding, w = s * shape.columns.dilation - shape.columns.padding;
    }

    __device__ __forceinline__ void begin(int64_t first, int64_t last) {
        pixel = int(first), left = int(last - first);
        pixel_of(first + b_row, h, w, at);
    }

    __device__ __forceinline__ void copy_gradients(unsigned char* stage) const {
#pragma unroll 1
        for (int row = a_row; row < Stage::kStep; row += kAStep) {
            const bool inside = row < left;
            unsigned char* const to = stage + Stage::a_offset(row, a_chunk);
            const T* const from = grad + int64_t(pixel + row) * shape.filters;
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
    }

    __device__ __forceinline__ void
    copy_window(unsigned char* to, int row, int h0, int w0, int c, bool real, int bytes) const {
        // What lies before an image is far behind it.
        const bool inside =
            real && row < left && h + h0 < uint32_t(shape.rows.image) && w + w0 < uint32_t(shape.columns.image);
        const T* const from =
            images + (uint64_t(at + uint32_t(h0) * shape.columns.image + w0) * uint32_t(shape.channels) + c);
        copy_piece(to, inside ? from : images, bytes, inside ? bytes : 0);
    }

    __device__ __forceinline__ void next_pixel() {
        const uint32_t end_h = uint32_t(shape.rows.out) * shape.rows.stride;
        const uint32_t end_w = uint32_t(shape.columns.out) * shape.columns.stride;
        h += step_h, w += step_w, at += step_at;
        if (w >= end_w) w -= end_w, h += shape.rows.stride, at += shape.rows.stride * shape.columns.image - end_w;
        if (h >= end_h) h -= end_h, at += (shape.rows.image - end_h) * shape.columns.image;
    }

    // The next step; the results' gradients too, unless something else brings them.
    __device__ __forceinline__ void load(unsigned char* stage, bool with_gradients) {
        if (with_gradients) copy_gradients(stage);
        unsigned char* const b = stage + Stage::kABytes;
        if (b_width == 16) {
#pragma unroll
            for (int i = 0; i < kB; ++i) {
                const int row = b_row + i * kBStep;
                copy_window(b + Stage::b_offset(row, b_chunk), row, first_h, first_w, first_c, column < columns, 16);
                next_pixel();
            }
        } else {
#pragma unroll 1
            for (int row = b_row; row < Stage::kStep; row += kBStep) {
#pragma unroll 1
                for (int byte = 0; byte < 16; byte += b_width) {
                    const int here = column + byte / int(sizeof(T));
                    int h, w, c;
                    place(here, h, w, c);
                    copy_window(b + Stage::b_offset(row, b_chunk) + byte, row, h, w, c, here < columns, b_width);
                }
                next_pixel();
            }
        }
        pixel += Stage::kStep, left -= Stage::kStep;
    }
};

// Sums of a filter of the group and neighbouring columns, to out (filters, channels / groups, R, S) or, a part each, to
// the workspace (splits, filters, R, S, channels / groups), which conv_weight_grad_sum_kernel adds up.
//
// Neighbouring columns are channels of one place, for 16-byte copies of windows, and in out they lie R * S elements apart:
// a sum of a window of more than one place is a sector of its own, 9 times the fewest for 3x3 of 16 bits. A block cannot
// gather whole sectors: the other places of its channels are other blocks' columns, and with columns of all places of
// some channels every copy would be half a sector or less, in each step of the loop. So a small weight pays a sector of L2
// traffic for each element, and a large one goes through the workspace though it has one part: conv_weight_grad_parts.
template <class T, int kN>
__device__ __forceinline__ void
leave_weight_sums(const WeightGradArguments& x, const WeightGradTiles& tiles, const WeightGradTile& tile, int64_t row,
                  int64_t column, const float (&value)[kN]) {
    if (row >= tiles.filters || column >= tiles.columns) return;
    const int64_t filter = tile.group * tiles.filters + row;
    if (x.workspace)
        return store_run(
            static_cast<float*>(x.workspace) + (tile.split * x.shape.filters + filter) * tiles.columns + column, value);
    // Runs are of windows of one place.
    store_run(static_cast<T*>(x.out) + (filter * tiles.channels + column % tiles.channels) * tiles.places +
                  column / tiles.channels,
              value);
}

// Whether sums leave in runs of kN. Else they are stored one by one: a warp's are neighbours, where runs would each fill
// half of a sector at a time.
inline bool weight_sums_in_runs(const WeightGradArguments& x, const WeightGradTiles& tiles, int n) {
    return !x.workspace && tiles.columns % n == 0 && tiles.places == 1 && reinterpret_cast<uintptr_t>(x.out) % 16 == 0;
}

// The parts of every sum, added in order: a block takes one filter and `some` channels, whose places become neighbours on
// the way through shared memory, so that both reads and writes are of neighbours.
template <class T>
__global__ void __launch_bounds__(256)
conv_weight_grad_sum_kernel(T* out, const float* workspace, int splits, int64_t filters, int channels, int places,
                            int some) {
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

// The second kernel, where there are parts.
template <class T>
void add_weight_sums(const WeightGradArguments& x, const WeightGradTiles& tiles, int splits, cudaStream_t stream) {
    if (!x.workspace) return;
    // Sixteen neighbours are two sectors; more where that leaves threads without work.
    const int some = std::max(16, 256 / tiles.places / 16 * 16);
    gpu::launch<conv_weight_grad_sum_kernel<T>>(
        dim3(unsigned((tiles.channels + some - 1) / some), unsigned(std::min<int64_t>(x.shape.filters, 65535))),
        dim3(256), unsigned(some * tiles.places * 4), stream, static_cast<T*>(x.out),
        static_cast<const float*>(x.workspace), splits, x.shape.filters, int(tiles.channels), tiles.places, some);
}
