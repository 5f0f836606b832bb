// Forward and input gradient on tensor cores: how operands come into the stages of a block, and where its sums go.
//
// A product's rows are pixels (of a phase), its columns filters, k is (place of the window, channel). A thread copies the
// same 16 bytes along k of several rows. Of each row it holds where its window begins and, as a bit each, which rows and
// columns of the window lie in the image; the place and channel that k has come to are the same for all of them.
//
// Channels (of a group) that do not fill 16 bytes are copied in pieces of 8, 4 or, element by element, 2 bytes, each with
// a place of its own.
#pragma once
#include "../device/moments.cuh"
#include "../matmul/matmul_epilogue.cuh"
#include "../ptx/sm80.h"
#include "conv_gather.cuh"
#include <initializer_list>

// `width` bytes (16, 8, 4, or those of an element) of which `valid` are real, from global to shared memory.
template <class T>
__device__ __forceinline__ void copy_piece(unsigned char* to, const T* from, int width, int valid) {
    if (width == 16) ptx::cp_async_16_cg(to, from, valid);
    else if (width == 8) ptx::cp_async_8(to, from, valid);
    else if (width == 4) ptx::cp_async_4(to, from, valid);
    else *reinterpret_cast<T*>(to) = valid ? *from : T(0.0f);
}

// The widest copies, in bytes, that neighbours in these arrays allow: 16, 8, 4, or those of an element.
inline int copy_width(int64_t channels, int item, std::initializer_list<const void*> arrays) {
    uintptr_t bits = uintptr_t(channels) * item | 16;
    for (const void* p : arrays) bits |= reinterpret_cast<uintptr_t>(p);
    return int(bits & -bits);
}

// Stage: a stage of the block's tile, in which both operands lie as rows of k:
//   Element, kStep (of k), kThreads (that copy), kRows, kColumns, kRowBytes (of k), kABytes (before b),
//   offset(row, chunk) of 16 bytes, where rows a multiple of 16 apart are permuted alike.
template <class Stage>
struct GatherLoader {
    using T = typename Stage::Element;
    static constexpr int kPer = 16 / int(sizeof(T)), kChunks = Stage::kStep / kPer,
                         kRowStep = Stage::kThreads / kChunks;
    static constexpr int kA = Stage::kRows / kRowStep, kB = Stage::kColumns / kRowStep;  // rows a thread copies
    static_assert(kRowStep % 16 == 0 && kA >= 1 && kB >= 1, "rows of a thread are permuted alike");

    // Place (r, s) of the phase's window and channel c.
    struct Term { int r, s, c; };

    const T *source, *filters;  // of the group; of this thread's first filter and the phase's first place
    // Of this thread's rows: where its window begins, in pixels, modulo 2^32 as what lies outside is not read; and
    // which places lie inside.
    uint32_t base[kA], down[kA], across[kA];
    uint32_t row_tap, column_tap, pixel;  // from place to place, in pixels; elements of a pixel
    int row_place, column_place;          // from place to place of a filter, in elements
    int64_t filter_step;                  // elements
    int places_down, places_across, channels;
    int filters_left, offset, width;
    Term at;

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
        const int64_t filter = tile.column0 + row;
        offset = Stage::offset(row, chunk);
        channels = int(x.each_in), places_down = tile.down.places, places_across = tile.across.places;
        pixel = uint32_t(x.groups * x.each_in);
        source = static_cast<const T*>(x.source) + tile.group * x.each_in;
        row_tap = uint32_t(tile.down.tap_step * x.columns.source), column_tap = uint32_t(tile.across.tap_step);
        column_place = tile.across.place_step * channels;
        row_place = tile.down.place_step * x.columns.window * channels;
        const int64_t filter_size = int64_t(x.rows.window) * x.columns.window * x.each_in;
        filter_step = kRowStep * filter_size;
        filters_left = int(min(x.each_out - filter, int64_t(Stage::kColumns)));
        filters =
            static_cast<const T*>(x.weight) + (tile.group * x.each_out + filter) * filter_size + first_place(x, tile);
#pragma unroll
        for (int i = 0; i < kA; ++i) {
            const uint32_t here = uint32_t(tile.row0) + row + i * kRowStep;
            down[i] = across[i] = base[i] = 0;
            if (here >= tile.rows) continue;
            const uint32_t in_image = here % tile.pixels, p = in_image / tile.across.positions;
            const int64_t h = tile.down.base + p * tile.down.source_step;
            const int64_t w = tile.across.base + (in_image - p * tile.across.positions) * tile.across.source_step;
            base[i] = uint32_t((here / tile.pixels * int64_t(x.rows.source) + h) * x.columns.source + w);
            down[i] = mask(h, tile.down.tap_step, places_down, x.rows.source);
            across[i] = mask(w, tile.across.tap_step, places_across, x.columns.source);
        }
    }

    // The phase's first place in a filter, in elements.
    static __device__ __forceinline__ int first_place(const GatherArguments& x, const GatherTile& tile) {
        return (tile.down.first_place * x.columns.window + tile.across.first_place) * int(x.each_in);
    }
    // The place that thread 0 has come to, from the first one, in elements.
    __device__ __forceinline__ int place() const { return at.r * row_place + at.s * column_place + at.c; }

    __device__ __forceinline__ void begin() {
        at = {0, 0, 0};
        if (channels && places_down && places_across) advance(at, int(threadIdx.x) % kChunks * kPer);
    }

    __device__ __forceinline__ void copy(unsigned char* to, const Term& t, int bytes, bool with_filters) const {
        const bool real = t.r < places_down;
        const uint32_t tap = t.r * row_tap + t.s * column_tap;
#pragma unroll
        for (int i = 0; i < kA; ++i) {
            const bool inside = real && (down[i] >> t.r & across[i] >> t.s & 1);
            copy_piece(to + i * kRowStep * Stage::kRowBytes,
                       inside ? source + (uint64_t(base[i] + tap) * pixel + t.c) : source, bytes, inside ? bytes : 0);
        }
        if (!with_filters) return;
        const int64_t place = t.r * row_place + t.s * column_place + t.c;
#pragma unroll
        for (int j = 0; j < kB; ++j) {
            const bool inside = real && j * kRowStep < filters_left;
            copy_piece(to + Stage::kABytes + j * kRowStep * Stage::kRowBytes,
                       inside ? filters + j * filter_step + place : source, bytes, inside ? bytes : 0);
        }
    }

    // The next step; filters too, unless something else brings them.
    __device__ __forceinline__ void load(unsigned char* stage, bool with_filters) {
        if (width == 16) {
            copy(stage + offset, at, 16, with_filters);
        } else {
            Term t = at;
#pragma unroll 1
            for (int byte = 0; byte < 16; byte += width) {
                copy(stage + offset + byte, t, width, with_filters);
                advance(t, width / int(sizeof(T)));
            }
        }
        advance(at, Stage::kStep);
    }
};

// The epilogue's arrays, of which a pixel of all results is a row, and their runs: those lie in one group, and in rows
// that begin at multiples of a run.
struct GatherFinish {
    MatmulArguments arrays;
    MatmulRuns runs;
};

template <class T, int kN>
GatherFinish gather_finish(const GatherArguments& x) {
    GatherFinish f{};
    MatmulArguments& a = f.arrays;
    a.out = x.out, a.preactivation = x.preactivation, a.bias = x.bias, a.bias_stride = 1;
    a.n = x.groups * x.each_out, a.m = 1, a.alpha = 1, a.activation = x.activation;
    a.residual = {x.residual, a.n, 1, {}, false};
    f.runs = matmul_runs<T, kN>(a);
    f.runs.out = f.runs.out && x.each_out % kN == 0;
    return f;
}

// Staged sums that finish_gathered rounds, of columns from column0 of the group: their moments as rounded.
template <class T, int kColumns, int kThreads, class Real>
__device__ __forceinline__ void
see_gathered(ColumnMoments<float, kColumns, kThreads>& moments, const GatherArguments& x, const GatherTile& tile,
             int64_t column0, int rows, const float* staged, Real real) {
    const int64_t column = column0 + moments.column;
    const float bias = x.bias && column < x.each_out
                           ? convert<float>(static_cast<const T*>(x.bias)[tile.group * x.each_out + column])
                           : 0.0f;
    moments.see(rows, real, [&](int here) {
        return convert<float>(convert<T>(staged[staged_index<kColumns>(here, moments.column)] + bias));
    });
}

// The sums of a row of the phase and neighbouring columns of the group.
template <class T, int kN>
__device__ __forceinline__ void finish_gathered(const GatherArguments& x, const GatherFinish& f, const GatherTile& tile,
                                                uint32_t row, int64_t column, float (&value)[kN]) {
    if (row >= tile.rows || column >= x.each_out) return;
    matmul_finish_run<T>(f.arrays, f.runs, MatmulOffsets{}, 0, gather_pixel(x, tile, row),
                         tile.group * x.each_out + column, value);
}
