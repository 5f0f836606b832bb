// Policy of the few_channels family: which tiles its blocks take, and how they lie in shared memory. Pure functions.
//
// A first layer sees 1 to 4 channels: its images are small beside its results, a pixel's channels do not fill a copy, and
// the sums are short. So memory decides, and a block has a tile of rows x columns results of one image, whose windows lie
// in shared memory as they lie in the image (the patch): copied once, in the widest pieces that a row of the image
// allows, however many channels a pixel has. Products take their operands from there.
#pragma once
#include "conv.h"
#include <array>

// Registers a thread, by ptxas 13.0 (sm_80, sm_90a, sm_120), and no local memory:
//   forward:      float32 160, 160, 190;  float64 161, 165, 184;  16-bit 128, 128, 128
//   weight_grad:  float32 153, 151, 171;  float64 140, 138, 164;  16-bit 123, 115, 114
constexpr int kFewChannelsThreads = 256;
constexpr int kFewChannelsFilters = 64;  // that a block has at once; others are other blocks' or a later turn's
constexpr int kFewChannelsPad = 4;       // elements after them: weights that are neighbours in memory lie in 8 banks
// Places and channels of a weight's gradient that a block has at once: a warp's share of them is in registers.
constexpr int kFewChannelsPlaces16Bit = 192, kFewChannelsPlaces32Bit = 128, kFewChannelsPlaces64Bit = 64;

// How a block's tile lies in shared memory. Sizes in elements unless they say bytes.
struct FewChannelsPlan {
    int rows, columns;      // results of a tile
    int pixels;             // as many, and up to a multiple of 16
    int patch_rows, width;  // pixels down; elements across that windows of the tile see
    int pitch;              // from row to row: a multiple of 16 bytes, with room for a row that begins within one
    int patch_bytes, stage_bytes;
    int terms, padded;               // of a sum: places times channels; a multiple of 32
    int weight_bytes;                // forward
    int places_at_once, sums_pitch;  // weight_grad: of a job, whole pixels; and from filter to filter of its sums
    int64_t shared_bytes;
};

// Which term of a window, of (rows, row_terms), stands k-th in the sums of the forward kernel of 16-bit types; those behind
// the last are none. A fragment gathers terms 2 q + e for its four q at once: so these are four neighbours of a row of the
// window, which with 8 results span less than the banks hold (while stride * channels is at most 8), and no two words
// meet. What rows leave over comes last, in fours of several rows.
__host__ __device__ __forceinline__ int few_channels_term(int k, int rows, int row_terms) {
    const int i = k / 8 * 8 + k % 2 * 4 + k % 8 / 2, whole = row_terms / 4 * 4, rest = i - rows * whole;
    if (rest < 0) return i / whole * row_terms + i % whole;
    const int left = row_terms - whole;
    return left ? rest / left * row_terms + whole + rest % left : i;
}

// Of those gathers of 16-bit types that span rows of the window, for each pitch modulo the banks in steps of 16 bytes:
// lanes whose bank another word has. Forward, 8 results by 4 terms; weight_grad, every second of 8 results by 8 terms.
// Not every window has a pitch without: rows begin at multiples of 16 bytes, for wide copies, and where the results'
// words leave gaps too narrow for another row's there is nowhere to put it. Nor is it asked where rows of a tile, not a
// multiple of 8 results, are gathered together.
inline std::array<int, 8> few_channels_conflicts(const ConvProblem& p) {
    const ConvShape& s = p.shape;
    std::array<int, 8> conflicts{};
    if (!conv_is_16_bit(p.dtype) || s.rows.window == 1) return conflicts;
    const bool forward = p.direction == ConvDirection::forward;
    const int channels = int(s.channels), row_terms = s.columns.window * channels, terms = s.rows.window * row_terms;
    const int left = row_terms % 4, first = forward ? s.rows.window * (row_terms - left) : 0, group = forward ? 4 : 8;
    for (int i0 = first; i0 < terms; i0 += group) {
        int row[8], column[8];  // of the group's terms, in elements
        const int count = std::min(group, terms - i0);
        for (int i = 0; i < count; ++i) {
            const int at = i0 + i - first, r = at / (forward ? left : row_terms);
            const int j = forward ? row_terms - left + at - r * left : at - r * row_terms;
            row[i] = r, column[i] = j / channels * s.columns.dilation * channels + j % channels;
        }
        if (row[0] == row[count - 1]) continue;
        for (int pitch = 0; pitch < 8; ++pitch) {
            int64_t word[32];
            std::fill_n(word, 32, int64_t(-1));
            for (int result = 0; result < 8; result += forward ? 1 : 2)
                for (int i = 0; i < count; ++i) {
                    const int64_t below = int64_t(row[i]) * s.rows.dilation;
                    const int64_t at = below * (65536 + pitch * 8) + column[i] + result * s.columns.stride * channels;
                    int64_t& there = word[at / 2 % 32];
                    if (there < 0) there = at / 2;
                    conflicts[size_t(pitch)] += there != at / 2;
                }
        }
    }
    return conflicts;
}

inline FewChannelsPlan
few_channels_plan(const ConvProblem& p, int rows, int columns, const std::array<int, 8>& conflicts) {
    const ConvShape& s = p.shape;
    const bool is_16_bit = conv_is_16_bit(p.dtype), forward = p.direction == ConvDirection::forward;
    const int item = conv_item_bytes(p.dtype), sum = p.dtype == DType::float64 ? 8 : 4, per = 16 / item;
    const int channels = int(s.channels);
    FewChannelsPlan plan{};
    plan.rows = rows, plan.columns = columns, plan.pixels = (rows * columns + 15) / 16 * 16;
    plan.patch_rows = (rows - 1) * s.rows.stride + (s.rows.window - 1) * s.rows.dilation + 1;
    plan.width = ((columns - 1) * s.columns.stride + (s.columns.window - 1) * s.columns.dilation + 1) * channels;
    const int least = (plan.width + 2 * per - 2) / per * per;
    const auto conflicts_of = [&](int pitch) { return conflicts[size_t(pitch / per % 8)]; };
    plan.pitch = least;
    for (int pitch = least + per; pitch < least + 8 * per; pitch += per)
        if (conflicts_of(pitch) < conflicts_of(plan.pitch)) plan.pitch = pitch;
    plan.patch_bytes = plan.patch_rows * plan.pitch * item;
    plan.terms = s.rows.window * s.columns.window * channels, plan.padded = (plan.terms + 31) / 32 * 32;
    const int table = plan.padded * 4;
    plan.stage_bytes = plan.patch_bytes + plan.pixels * 4;
    if (forward) {
        plan.weight_bytes =
            plan.padded * (is_16_bit ? kFewChannelsFilters * 2 : (kFewChannelsFilters + kFewChannelsPad) * sum);
        const int staged = is_16_bit ? kFewChannelsThreads / 32 * 16 * kFewChannelsFilters * 4 : 0;
        plan.stage_bytes = (plan.stage_bytes + 127) / 128 * 128;
        // Of every warp's 64 columns, or of four columns of half the threads (VectorMoments).
        const int moments =
            is_16_bit ? kFewChannelsThreads / 32 * 3 * kFewChannelsFilters * 4 : kFewChannelsThreads / 2 * 9 * sum;
        plan.shared_bytes = int64_t(2) * plan.stage_bytes + plan.weight_bytes + table + staged + moments;
    } else {
        const int most = is_16_bit   ? kFewChannelsPlaces16Bit
                         : item == 4 ? kFewChannelsPlaces32Bit
                                     : kFewChannelsPlaces64Bit;
        plan.places_at_once = std::min(plan.terms, most / channels * channels);
        plan.stage_bytes = (plan.stage_bytes + 127) / 128 * 128 + plan.pixels * kFewChannelsFilters * item;
        // By which a warp's sums lie in 32 banks.
        plan.sums_pitch = is_16_bit ? (plan.places_at_once + 24) / 32 * 32 + 8
                                    : (plan.places_at_once + plan.places_at_once / 8 * 2 + 5) | 1;
        plan.shared_bytes =
            std::max(int64_t(2) * plan.stage_bytes, int64_t(kFewChannelsFilters) * plan.sums_pitch * sum);
    }
    return plan;
}

inline FewChannelsPlan few_channels_plan(const ConvProblem& p, int rows, int columns) {
    return few_channels_plan(p, rows, columns, few_channels_conflicts(p));
}

// What the family takes: 1 to 4 channels of one group, sums short enough for a tensor core's and a patch's sizes in 32
// bits; not the gradient of images, which a first layer seldom needs.
inline bool few_channels_serves(const ConvProblem& p) {
    const ConvShape& s = p.shape;
    constexpr double kMost = 1 << 30;
    const double patch =
        (double(kConvFewChannelsPixels) * s.rows.stride + double(s.rows.window) * s.rows.dilation) *
        (double(kConvFewChannelsPixels) * s.columns.stride + double(s.columns.window) * s.columns.dilation);
    return p.direction != ConvDirection::input_grad && s.groups == 1 && s.channels >= 1 &&
           s.channels <= kConvFewChannels &&
           double(s.rows.window) * s.columns.window * double(s.channels) <= kConvFewChannelsTerms &&
           patch <= kMost / 32 && double(s.batch) * s.rows.out * s.columns.out <= kMost && double(s.filters) <= kMost;
}

inline int64_t few_channels_tiles(const ConvProblem& p, const ConvConfig& c) {
    const ConvShape& s = p.shape;
    return s.batch * ((s.rows.out + c.rows - 1) / c.rows) * ((s.columns.out + c.columns - 1) / c.columns);
}

// The tile that moves the fewest bytes, patches counted in sectors and results beyond an image's edge as if they were
// real; blocks for every SM that holds them; parts of a gradient for all of these.
inline ConvConfig few_channels_config(const ConvProblem& p, const DeviceProperties& device) {
    const ConvShape& s = p.shape;
    const int item = conv_item_bytes(p.dtype);
    const int most = p.direction == ConvDirection::forward ? kConvFewChannelsPixels : kConvFewChannelsPixels / 2;
    ConvConfig best;
    best.family = ConvFamily::few_channels, best.rows = best.columns = 1;
    double fewest = std::numeric_limits<double>::infinity();
    const std::array<int, 8> conflicts = few_channels_conflicts(p);
    for (int columns = 8; columns <= most; columns *= 2)
        for (int rows = 1; rows * std::min(columns, s.columns.out) <= most; rows *= 2) {
            ConvConfig c = best;
            c.rows = std::min(rows, s.rows.out), c.columns = std::min(columns, s.columns.out);
            const FewChannelsPlan plan = few_channels_plan(p, c.rows, c.columns, conflicts);
            if (plan.shared_bytes > device.shared_per_block) continue;
            const double tiles = double(few_channels_tiles(p, c));
            const double sectors = std::ceil((plan.width * item + 31) / 32.0) * plan.patch_rows;
            const double bytes = tiles * (sectors * 32 + double(plan.pixels) * double(s.filters) * item);
            if (bytes < fewest) fewest = bytes, best = c;
        }
    const FewChannelsPlan plan = few_channels_plan(p, best.rows, best.columns, conflicts);
    const int64_t tiles = few_channels_tiles(p, best);
    const int most_resident = conv_is_16_bit(p.dtype) ? 2 : 1;  // that the registers hold
    const int resident = int(std::clamp<int64_t>(device.shared_per_sm / (plan.shared_bytes + 1024), 1, most_resident));
    best.max_blocks = resident * device.sm_count;
    if (p.direction == ConvDirection::weight_grad) {
        const int64_t chunks = (s.filters + kFewChannelsFilters - 1) / kFewChannelsFilters *
                               ((plan.terms + plan.places_at_once - 1) / plan.places_at_once);
        int64_t parts =
            std::clamp<int64_t>(best.max_blocks / std::max<int64_t>(chunks, 1), 1, std::max<int64_t>(tiles, 1));
        if (conv_is_16_bit(p.dtype))
            parts = std::max(parts, (tiles * plan.pixels + kConvSm80Terms - 1) / kConvSm80Terms);
        best.splits = int(std::min<int64_t>(parts, 65535));
    }
    return best;
}
