// Which launch serves which convolution: a pure function of the problem and the device, printable, tested without a GPU.
#pragma once
#include "../host/device.h"
#include "../host/dtype.h"
#include "../host/mma_stage.h"
#include "../matmul/matmul_sm90_config.h"
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

enum class ConvDirection { forward, input_grad, weight_grad };

// One dimension of the images. `out` may be fewer windows than fit: those that are missing count as zero.
struct ConvAxis { int image, out, window, stride, padding, dilation; };

struct ConvShape {
    int64_t batch, channels, filters, groups;
    ConvAxis rows, columns;
    // Pixels of all images, and of all results, are fewer than 2^32.
};

struct ConvProblem {
    ConvDirection direction = ConvDirection::forward;
    DType dtype = DType::float32;
    ConvShape shape{};
};

// general: ordinary multiply-adds, every dtype and shape.
// sm80: mma.sync fed by cp.async: 16-bit types and float32 (as 3xTF32), on Ampere and all that came after.
// depthwise: groups of one channel, every dtype.
// sm90: wgmma fed by cp.async and TMA: 16-bit types, on Hopper alone.
// few_channels: images of 1 to 4 channels, forward and weight gradient, every dtype (16-bit types by mma.sync).
enum class ConvFamily { general, sm80, depthwise, sm90, few_channels };
constexpr const char* kConvFamilies[] = {"general", "sm80", "depthwise", "sm90", "few_channels"};

// Sides of the general family's square tiles, with one thread for 16 or 32 results.
//
// Registers a thread, by ptxas 13.0 (float32, 16-bit, float64), and no local memory:
//                       sm_80           sm_90a          sm_120
//   gather, 32         139, 140, 196   139, 143, 202   159, 159, 194
//   gather, 64         177, 177, 222   179, 177, 220   185, 187, 228
//   weight_grad, 32    134, 134, 192   133, 133, 192   161, 161, 194
//   weight_grad, 64    168, 166, 214   167, 167, 210   191, 191, 234
constexpr int kConvSmall = 32, kConvMedium = 64;
constexpr int kConvFold = 16;

// Tiles of the sm80 family and the warps that share them.
struct ConvSm80Tile {
    int rows, columns, warps_down, warps_across;
    bool for_16_bit, for_float32;
    double efficiency;  // estimate, as matmul's: a step of a small tile has all of a step's overhead for fewer products
};
constexpr ConvSm80Tile kConvSm80Tiles[] = {
    {128, 128, 2, 4, true, false, 0.85},
    {128, 64, 2, 2, true, false, 0.8},
    {128, 64, 4, 2, false, true, 0.9},
    {64, 64, 2, 2, true, true, 0.75},
};

// Tiles of the sm90 family, among matmul's, and which kernels have them: a thread of the producer has a row in sixteen of
// those that it gathers.
struct ConvSm90Tile {
    int rows, columns;
    bool for_gather, for_weight_grad;
};
constexpr ConvSm90Tile kConvSm90Tiles[] = {
    {128, 256, true, true}, {128, 128, true, true}, {128, 64, true, false},
    {64, 128, false, true}, {64, 64, true, true},
};

// Of the depthwise family: threads of a block, some along channels, at most a warp, the others along pixels; neighbours
// that a thread computes at once, a weight being read once for them, and times that it does so with the same weights in
// shared memory; places of the window whose gradients a thread sums at once; bytes in which sums of more places may meet.
constexpr int kConvDepthwiseThreads = 128, kConvDepthwisePixels = 2, kConvDepthwiseRepeats = 8;
constexpr int kConvDepthwisePlaces = 9, kConvDepthwiseStagedBytes = 16384;

// The few_channels family: channels, terms of a sum (places times channels), results of a block's tile.
constexpr int kConvFewChannels = 4, kConvFewChannelsTerms = 256, kConvFewChannelsPixels = 256;

constexpr int kConvSm80Window = 32;  // places in a dimension: a bit each of a mask

// A sum of 16-bit products stays in the tensor cores, which cut off half of 2^-23 of it every 8 terms on average: after
// so many terms of one sign that is a quarter of what rounding the result to float16 may lose.
constexpr int64_t kConvSm80Terms = 16384;

struct ConvConfig {
    ConvFamily family = ConvFamily::general;
    // Of a block's tile; depthwise: threads along pixels and channels; few_channels: results down and across an image.
    int rows = kConvMedium, columns = kConvMedium;
    int stages = 0;  // of shared memory (sm80, sm90)
    // Terms after which a running sum is added to its total, as matmul's: a multiple of 8 (general,
    // few_channels but for 16-bit types) or 32 (sm80).
    int fold = kConvFold;
    int splits = 1;  // parts of the weight gradient's sums over pixels, added in order
    int max_blocks = std::numeric_limits<int>::max();  // blocks take further tiles in turn

    std::string to_string() const {
        std::string s = std::string("conv(") + kConvFamilies[int(family)] + " " + std::to_string(rows) + "x" +
                        std::to_string(columns);
        if (stages) s += ", stages=" + std::to_string(stages);
        if (fold) s += ", fold=" + std::to_string(fold);
        if (splits != 1) s += ", splits=" + std::to_string(splits);
        return s + ")";
    }
};

inline bool conv_is_16_bit(DType dtype) { return dtype == DType::float16 || dtype == DType::bfloat16; }

inline const ConvSm80Tile* conv_sm80_tile(int rows, int columns, DType dtype) {
    for (const ConvSm80Tile& t : kConvSm80Tiles)
        if (t.rows == rows && t.columns == columns && (conv_is_16_bit(dtype) ? t.for_16_bit : t.for_float32)) return &t;
    return nullptr;
}

// Types, windows that masks have bits for, and what is counted in 32 bits: pixels, columns of a weight's gradient.
inline bool conv_sm80_serves(const ConvProblem& p) {
    const ConvAxis &rows = p.shape.rows, &columns = p.shape.columns;
    constexpr double kMost = 1u << 30;
    const auto counted = [](const ConvAxis& a) { return double(a.out) * a.stride <= kMost; };
    return (conv_is_16_bit(p.dtype) || p.dtype == DType::float32) && rows.window <= kConvSm80Window &&
           columns.window <= kConvSm80Window && counted(rows) && counted(columns) &&
           double(p.shape.batch) * rows.image * columns.image <= kMost &&
           double(p.shape.batch) * rows.out * columns.out <= kMost &&
           double(rows.window) * columns.window * double(p.shape.channels) <= kMost && double(p.shape.filters) <= kMost;
}

inline const ConvSm90Tile* conv_sm90_tile(int rows, int columns) {
    for (const ConvSm90Tile& t : kConvSm90Tiles)
        if (t.rows == rows && t.columns == columns) return &t;
    return nullptr;
}

// "windows have 128x256, ..."
inline std::string conv_sm90_tiles() {
    std::string s[2];
    for (const ConvSm90Tile& t : kConvSm90Tiles)
        for (const int i : {0, 1})
            if (i ? t.for_weight_grad : t.for_gather)
                s[i] += (s[i].empty() ? "" : ", ") + std::to_string(t.rows) + "x" + std::to_string(t.columns);
    return "forward and input_grad have " + s[0] + ", weight_grad " + s[1];
}

inline int conv_sm90_shared_bytes(const ConvConfig& c) {
    MatmulConfig m;
    m.rows = c.rows, m.columns = c.columns, m.stages = c.stages;
    return matmul_sm90_shared_bytes(m);
}

inline bool conv_sm90_serves(const ConvProblem& p) { return conv_is_16_bit(p.dtype) && conv_sm80_serves(p); }

inline int conv_item_bytes(DType dtype) { return conv_is_16_bit(dtype) ? 2 : dtype == DType::float64 ? 8 : 4; }

inline bool conv_depthwise_serves(const ConvProblem& p) {
    return p.shape.groups > 1 && p.shape.channels == p.shape.groups;
}

// Shared memory of a block with so many threads along channels: weights and each thread's moments of results; or, for the
// weights' gradient, sums of each thread and of places.
inline int64_t conv_depthwise_shared_bytes(const ConvProblem& p, int lanes) {
    const int64_t item = p.dtype == DType::float64 ? 8 : 4, vector = 16 / conv_item_bytes(p.dtype);
    const int64_t channels = lanes * vector;
    if (p.direction == ConvDirection::weight_grad)
        return kConvDepthwiseThreads / lanes * channels * item + kConvDepthwiseStagedBytes;
    const int64_t each = p.direction == ConvDirection::forward ? 1 : p.shape.filters / p.shape.groups;
    const int64_t moments = p.direction == ConvDirection::forward ? kConvDepthwiseThreads * (2 * vector + 1) : 0;
    return (int64_t(p.shape.rows.window) * p.shape.columns.window * each * channels + moments) * item;
}

// Parts in which a forward pass leaves its results' moments: of the few_channels family tiles of an image, of others runs
// of pixels: a block's rows or, of the sm90 family, a consumer's.
inline int64_t conv_moment_parts(const ConvConfig& c, const ConvShape& s) {
    if (c.family == ConvFamily::few_channels)
        return s.batch * ((s.rows.out + c.rows - 1) / c.rows) * ((s.columns.out + c.columns - 1) / c.columns);
    const int64_t pixels = c.family == ConvFamily::sm90        ? 64
                           : c.family == ConvFamily::depthwise ? c.rows * kConvDepthwisePixels * kConvDepthwiseRepeats
                                                               : c.rows;
    const int64_t tile = std::max(pixels, int64_t(c.rows));  // whose last parts may be empty
    return (s.batch * s.rows.out * s.columns.out + tile - 1) / tile * (tile / pixels);
}

// Parts of a weight's gradient that the workspace holds; 0 where sums go straight to the result. Those of the sm80 and
// sm90 families would then be a sector of 32 bytes each where the window has several places; through the workspace an
// element is 10 bytes at most, 4 written and read, and a launch more, which 2^20 elements outweigh: at 5 TB/s of an L2
// they save 4 us of 7, by estimate.
constexpr int64_t kConvStagedWeight = int64_t(1) << 20;
inline int64_t conv_weight_grad_parts(const ConvConfig& c, const ConvShape& s) {
    if (c.splits > 1) return c.splits;
    const int64_t places = int64_t(s.rows.window) * s.columns.window;
    const bool tensor_cores = c.family == ConvFamily::sm80 || c.family == ConvFamily::sm90;
    return tensor_cores && places > 1 && s.filters * (s.channels / s.groups) * places >= kConvStagedWeight ? 1 : 0;
}

// What is wrong with a config for this problem on this device, or nothing.
std::string conv_fault(const ConvConfig& config, const ConvProblem& problem, const DeviceProperties& device);

ConvConfig conv_config(const ConvProblem& problem, const DeviceProperties& device);
