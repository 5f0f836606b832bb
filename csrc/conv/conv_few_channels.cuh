// Convolutions of images with 1 to 4 channels (few_channels.h says why): what the kernels of both files share, the copies
// of a tile into a stage of shared memory and the way to its operands there.
//
// A stage is the patch (patch_rows, pitch) of elements, a table of its pixels, and for a weight's gradient the tile's
// gradients (pixels, 64 filters). Element (r, s, c) of the window of result i is patch[table[i] + place_offset(r, s, c)];
// the table holds -1 for results that are not real: beyond the edge, or what fills up 16.
#pragma once
#include "../device/mma_product.cuh"
#include "../device/vector.cuh"
#include "conv_few_channels.h"
#include "conv_gather.cuh"
#include "conv_gather_loader.cuh"

namespace conv_few_channels {

using namespace mma_product;

constexpr int kThreads = kFewChannelsThreads, kFilters = kFewChannelsFilters;
using Plan = FewChannelsPlan;

// The first result of a tile.
struct TilePlace { int image, row, column; };

__device__ __forceinline__ TilePlace tile_place(const ConvShape& s, const Plan& plan, int tile) {
    const int across = (s.columns.out + plan.columns - 1) / plan.columns,
              down = (s.rows.out + plan.rows - 1) / plan.rows;
    const int in_image = tile % (down * across);
    return {tile / (down * across), in_image / across * plan.rows, in_image % across * plan.columns};
}

// Result i of a tile as a pixel of all results, or -1.
__device__ __forceinline__ int64_t result_pixel(const ConvShape& s, const Plan& plan, const TilePlace& at, int i) {
    const int row = i / plan.columns, p = at.row + row, q = at.column + i - row * plan.columns;
    if (row >= plan.rows || p >= s.rows.out || q >= s.columns.out) return -1;
    return (int64_t(at.image) * s.rows.out + p) * s.columns.out + q;
}

// Where in the patch the k-th element (r, s, c) of a window lies, from the window's first.
__device__ __forceinline__ int place_offset(const ConvShape& s, const Plan& plan, int k) {
    const int channels = int(s.channels), c = k % channels, place = k / channels;
    return place / s.columns.window * s.rows.dilation * plan.pitch +
           place % s.columns.window * s.columns.dilation * channels + c;
}

__device__ __forceinline__ int* pixel_table(unsigned char* stage, const Plan& plan) {
    return reinterpret_cast<int*>(stage + plan.patch_bytes);
}

// The patch and the table of a tile, by all threads: `width` bytes at once, from where a row's first element shares its
// alignment in the image, so that a piece lies in the image whole or not at all.
template <class T>
__device__ __forceinline__ void load_patch(unsigned char* stage, const ConvShape& s, const Plan& plan, const T* images,
                                           const TilePlace& at, int width) {
    const int per = width / int(sizeof(T)), channels = int(s.channels), h0 = at.row * s.rows.stride - s.rows.padding;
    const int64_t first = (int64_t(at.column) * s.columns.stride - s.columns.padding) * channels;
    const int skew = int(first & (per - 1)), pieces = (skew + plan.width + per - 1) / per;
    const int64_t row_size = int64_t(s.columns.image) * channels;
    const T* const image = images + int64_t(at.image) * s.rows.image * row_size;
#pragma unroll 1
    for (int i = int(threadIdx.x); i < plan.patch_rows * pieces; i += kThreads) {
        const int row = i / pieces, piece = i - row * pieces, h = h0 + row;
        const int64_t element = first - skew + int64_t(piece) * per;
        const bool inside = h >= 0 && h < s.rows.image && element >= 0 && element < row_size;
        copy_piece(stage + (row * plan.pitch + piece * per) * int(sizeof(T)),
                   inside ? image + h * row_size + element : images, width, inside ? width : 0);
    }
    int* const table = pixel_table(stage, plan);
#pragma unroll 1
    for (int i = int(threadIdx.x); i < plan.pixels; i += kThreads) {
        const int row = i / plan.columns, column = i - row * plan.columns;
        table[i] = result_pixel(s, plan, at, i) < 0
                       ? -1
                       : row * s.rows.stride * plan.pitch + column * s.columns.stride * channels + skew;
    }
}

// The tile's gradients of 64 filters from filter0, zeros for what is not real. offset(pixel, chunk): where 16 bytes of a
// pixel's filters lie.
template <class T, class Offset>
__device__ __forceinline__ void load_grad(unsigned char* to, const ConvShape& s, const Plan& plan, const T* grad,
                                          const TilePlace& at, int64_t filter0, int width, Offset offset) {
    constexpr int kPer = 16 / int(sizeof(T)), kChunks = kFilters / kPer;
#pragma unroll 1
    for (int i = int(threadIdx.x); i < plan.pixels * kChunks; i += kThreads) {
        const int chunk = i % kChunks;
        const int64_t pixel = result_pixel(s, plan, at, i / kChunks), filter = filter0 + chunk * kPer;
        const int valid = pixel < 0 ? 0 : int(max(min(s.filters - filter, int64_t(kPer)), int64_t(0))) * int(sizeof(T));
        const T* const from = valid ? grad + pixel * s.filters + filter : grad;
        unsigned char* const target = to + offset(i / kChunks, chunk);
        if (width == 16) {
            copy_piece(target, from, 16, valid);
        } else {
#pragma unroll 1
            for (int byte = 0; byte < 16; byte += width)
                copy_piece(target + byte, byte < valid ? from + byte / int(sizeof(T)) : grad, width,
                           byte < valid ? width : 0);
        }
    }
}

// A weight gradient's jobs, the slowest first: parts of the tiles, filters, places.
struct Job {
    int first, last;  // tiles
    int filter0, split;
    int place0, places;  // of R * S * C
};

__host__ __device__ __forceinline__ int64_t job_count(const ConvShape& s, const Plan& plan, int splits) {
    return (s.filters + kFilters - 1) / kFilters * ((plan.terms + plan.places_at_once - 1) / plan.places_at_once) *
           splits;
}

__device__ __forceinline__ Job take_job(const ConvShape& s, const Plan& plan, int splits, int tiles, int64_t j) {
    const int across = (plan.terms + plan.places_at_once - 1) / plan.places_at_once;
    const int64_t down = (s.filters + kFilters - 1) / kFilters;
    const int part = (tiles + splits - 1) / splits;
    Job job;
    job.place0 = int(j % across) * plan.places_at_once, job.places = min(plan.places_at_once, plan.terms - job.place0);
    job.filter0 = int(j / across % down * kFilters), job.split = int(j / across / down);
    job.first = int(min(int64_t(job.split) * part, int64_t(tiles))), job.last = min(job.first + part, tiles);
    return job;
}

// multiply(tile, stage) for every step-th tile, the next being on its way meanwhile; load(tile, stage) issues its copies.
// Ends with a barrier.
template <class Index, class Load, class Multiply>
__device__ __forceinline__ void
each_tile(unsigned char* shared, const Plan& plan, Index first, Index step, Index last, Load load, Multiply multiply) {
    if (first < last) load(first, shared);
    ptx::cp_async_commit();
    int stage = 0;
#pragma unroll 1
    for (Index tile = first; tile < last; tile += step, stage ^= 1) {
        ptx::cp_async_wait_all();
        __syncthreads();  // everyone's copies have landed, and the other stage has been read
        if (tile + step < last) load(tile + step, shared + (stage ^ 1) * plan.stage_bytes);
        ptx::cp_async_commit();
        multiply(tile, shared + stage * plan.stage_bytes);
    }
    ptx::cp_async_wait_all();
    __syncthreads();
}

// The sums of a job, in shared memory at(filter, place), to `to` (filters, channels, R, S) of a part: runs of a channel's
// places, neighbours together.
template <class To, class Sum, class At>
__device__ __forceinline__ void
leave_sums(To* to, const Sum* sums, const ConvShape& s, const Plan& plan, const Job& job, At at) {
    const int window = s.rows.window * s.columns.window, channels = int(s.channels);
    const int filters = int(min(s.filters - job.filter0, int64_t(kFilters)));
    const int pixels = job.places / channels, pixel0 = job.place0 / channels;
#pragma unroll 1
    for (int i = int(threadIdx.x); i < filters * job.places; i += kThreads) {
        const int filter = i / job.places, rest = i - filter * job.places, c = rest / pixels, pixel = rest - c * pixels;
        to[(job.filter0 + filter) * plan.terms + c * window + pixel0 + pixel] =
            convert<To>(sums[at(filter, pixel * channels + c)]);
    }
}

// Where the moments of a chunk of filters go: a part is a tile.
template <class Sum>
__device__ __forceinline__ Sum* tile_moments(void* moments, const ConvShape& s, int tile, int64_t filter0) {
    return static_cast<Sum*>(moments) + int64_t(tile) * 3 * s.filters + filter0;
}

inline int tile_count(const ConvShape& s, const Plan& plan) {
    return int(s.batch) * ((s.rows.out + plan.rows - 1) / plan.rows) *
           ((s.columns.out + plan.columns - 1) / plan.columns);
}

inline unsigned block_count(int64_t jobs, const ConvConfig& config) {
    return unsigned(std::clamp<int64_t>(jobs, 1, config.max_blocks));
}

inline ConvShape shape_of(const GatherArguments& x) {
    const auto axis = [](const GatherAxis& a) {
        return ConvAxis{a.source, a.target, a.window, a.stride, a.padding, a.dilation};
    };
    return {x.batch, x.each_in, x.each_out, 1, axis(x.rows), axis(x.columns)};
}

}  // namespace conv_few_channels
