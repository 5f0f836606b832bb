// What the families of convolution kernels share: forward and input gradient as one gather, and their launches.
//
// The pixels of an input that lie a stride apart (a phase) see the same places of the window, and for them the gradient
// is a convolution without stride. So each phase is a product of its own, and no zeros are multiplied.
#pragma once
#include "conv.h"

// One dimension of a gather. Position i of a phase is pixel phase + i * pixel_step of what is written; its j-th place of
// the window is place first_place + j * place_step and sees pixel base + i * source_step + j * tap_step of the source.
struct GatherAxis {
    int source, target;  // pixels read and written
    int window, stride, padding, dilation;
    int phases, place_step;
};

struct GatherPhase {
    int positions, phase, pixel_step;
    int places, first_place, place_step;
    int64_t base, source_step, tap_step;
};

__device__ __forceinline__ GatherPhase forward_phase(const GatherAxis& a) {
    return {a.target, 0, 1, a.window, 0, 1, -int64_t(a.padding), a.stride, a.dilation};
}

// place_step is stride / gcd(stride, dilation): after so many places the window meets the phase again.
__device__ __forceinline__ GatherPhase backward_phase(const GatherAxis& a, int phase) {
    GatherPhase p;
    p.positions = (a.target - phase - 1) / a.stride + 1;
    p.phase = phase;
    p.pixel_step = a.stride;
    p.place_step = a.place_step;
    const int64_t at = int64_t(phase) + a.padding;
    int first = 0;
    while (first < a.window && first < a.place_step && (at - int64_t(first) * a.dilation) % a.stride != 0) ++first;
    const bool meets = first < a.window && first < a.place_step;
    p.first_place = first;
    p.places = meets ? (a.window - 1 - first) / a.place_step + 1 : 0;
    p.base = meets ? (at - int64_t(first) * a.dilation) / a.stride : 0;
    p.source_step = 1;
    p.tap_step = -(int64_t(a.dilation) * a.place_step / a.stride);
    return p;
}

struct GatherArguments {
    void* out;             // (batch, rows.target, columns.target, groups * each_out)
    void* preactivation;   // the same, or null
    const void* source;    // (batch, rows.source, columns.source, groups * each_in)
    const void* weight;    // (groups, each_out, rows.window, columns.window, each_in)
    const void* bias;      // (groups * each_out,) or null
    const void* residual;  // as out, or null
    void* moments;         // (parts, 3, groups * each_out) of results, forward, or null
    int64_t batch, groups, each_in, each_out;
    GatherAxis rows, columns;
    bool backward;  // phases of an input's gradient
    ActivationChoice activation;
};

// Which tile of which product comes t-th, and the phases it belongs to.
struct GatherTile {
    int64_t row0, column0, group;  // row0 may lie beyond the phase's rows: others have more
    GatherPhase down, across;
    uint32_t pixels, rows;  // of an image and of all images in this phase
};

struct GatherTiles {
    uint32_t down, across;
    int64_t count;
};

// Tiles of the phase with the most pixels, the first; others may have a last tile without rows.
__host__ __device__ __forceinline__ GatherTiles gather_tiles(const GatherArguments& x, int rows, int columns) {
    const int64_t most_down = x.backward ? (x.rows.target - 1) / x.rows.stride + 1 : x.rows.target;
    const int64_t most_across = x.backward ? (x.columns.target - 1) / x.columns.stride + 1 : x.columns.target;
    GatherTiles tiles;
    tiles.down = uint32_t((x.batch * most_down * most_across + rows - 1) / rows);
    tiles.across = uint32_t((x.each_out + columns - 1) / columns);
    tiles.count = int64_t(x.rows.phases) * x.columns.phases * x.groups * tiles.down * tiles.across;
    return tiles;
}

__device__ __forceinline__ GatherTile gather_tile(const GatherArguments& x, const GatherTiles& tiles, int64_t t,
                                                  int rows, int columns) {
    GatherTile tile;
    tile.column0 = t % tiles.across * columns;
    t /= tiles.across;
    tile.row0 = t % tiles.down * rows;
    t /= tiles.down;
    tile.group = t % x.groups;
    t /= x.groups;
    const int phase_across = int(t % x.columns.phases), phase_down = int(t / x.columns.phases);
    tile.down = x.backward ? backward_phase(x.rows, phase_down) : forward_phase(x.rows);
    tile.across = x.backward ? backward_phase(x.columns, phase_across) : forward_phase(x.columns);
    tile.pixels = uint32_t(tile.down.positions) * tile.across.positions;
    tile.rows = uint32_t(x.batch) * tile.pixels;
    return tile;
}

// Where the moments of the tile's columns go: `part` of the rows of all tiles.
template <class Sum>
__device__ __forceinline__ Sum* gather_moments(const GatherArguments& x, const GatherTile& tile, int64_t part) {
    return static_cast<Sum*>(x.moments) + part * 3 * x.groups * x.each_out + tile.group * x.each_out;
}

// Steps of so many terms in each of the tile's sums.
__device__ __forceinline__ int gather_steps(const GatherArguments& x, const GatherTile& tile, int step) {
    return int((int64_t(tile.down.places) * tile.across.places * x.each_in + step - 1) / step);
}

// The pixel of all results that a row of a phase is.
__device__ __forceinline__ int64_t gather_pixel(const GatherArguments& x, const GatherTile& tile, uint32_t row) {
    if (!x.backward) return row;
    const uint32_t pixel = row % tile.pixels;
    const int64_t h = tile.down.phase + int64_t(pixel / tile.across.positions) * tile.down.pixel_step;
    const int64_t w = tile.across.phase + int64_t(pixel % tile.across.positions) * tile.across.pixel_step;
    return (int64_t(row / tile.pixels) * x.rows.target + h) * x.columns.target + w;
}

struct WeightGradArguments {
    void* out;         // (filters, channels / groups, R, S)
    void* workspace;   // (splits, ...) sums, or null
    const void* grad;  // (batch, rows.out, columns.out, filters)
    const void* x;     // (batch, rows.image, columns.image, channels)
    ConvShape shape;
};

// One family's launches, in conv_<family>.cu or, an element type each, conv_<family>_<type>.cu.
void conv_general_gather(const GatherArguments& x, DType dtype, const ConvConfig& config, cudaStream_t stream);
void conv_general_weight_grad(const WeightGradArguments& x, DType dtype, const ConvConfig& config, cudaStream_t stream);
void conv_depthwise_gather(const GatherArguments& x, DType dtype, const ConvConfig& config, cudaStream_t stream);
void conv_depthwise_weight_grad(const WeightGradArguments& x, DType dtype, const ConvConfig& config,
                                cudaStream_t stream);
void conv_few_channels_gather(const GatherArguments& x, DType dtype, const ConvConfig& config, cudaStream_t stream);
void conv_few_channels_weight_grad(const WeightGradArguments& x, DType dtype, const ConvConfig& config,
                                   cudaStream_t stream);
void conv_few_channels_gather_16_bit(const GatherArguments& x, DType dtype, const ConvConfig& config,
                                     cudaStream_t stream);
void conv_few_channels_weight_grad_16_bit(const WeightGradArguments& x, DType dtype, const ConvConfig& config,
                                          cudaStream_t stream);
void conv_sm80_gather_fp16(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream);
void conv_sm80_gather_bf16(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream);
void conv_sm80_gather_fp32(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream);
void conv_sm90_gather_fp16(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream);
void conv_sm90_gather_bf16(const GatherArguments& x, const ConvConfig& config, cudaStream_t stream);
void conv_sm90_weight_grad_fp16(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream);
void conv_sm90_weight_grad_bf16(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream);
void conv_sm80_weight_grad_fp16(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream);
void conv_sm80_weight_grad_bf16(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream);
void conv_sm80_weight_grad_fp32(const WeightGradArguments& x, const ConvConfig& config, cudaStream_t stream);
