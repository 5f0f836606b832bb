// Attention on mma.sync (sm_80 and later), FlashAttention-2's form (Dao 2023): a warp keeps the scores of its rows in
// registers from product to product. Here is what forward and backward share; a "row" is what a warp owns, a query or (for
// the gradients of keys and values) a key, a "column" one of the others.
//
// A thread holds, of 16 rows and kColumns columns, elements v of blocks j of eight columns: row g + 8 * (v / 2) and column
// 8 * j + 2 * t + v % 2, with g = lane / 4, t = lane % 4. Rounded to 16 bits these are the first operand of the next product.
#pragma once
#include "../device/mma_fragments.cuh"
#include "../device/mma_operand.cuh"
#include "../device/reduce.cuh"
#include "attention_common.cuh"

namespace attention_sm80 {

using namespace mma_product;

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// Bytes of each matrix that may be copied at once (0: single elements), as the host finds them.
struct Copies { int q, k, v, grad; };

template <class T>
int copy_bytes(const void* data, const AttentionStrides& s) {
    if (s.column != 1) return 0;
    const uintptr_t bits =
        reinterpret_cast<uintptr_t>(data) | uintptr_t((s.batch | s.head | s.row) * int64_t(sizeof(T))) | 16;
    const int bytes = int(bits & -bits);
    return bytes >= 4 ? bytes : 0;
}

// The t-th of all tiles of kRows rows; kLastFirst: the last rows of a head come first.
struct Place {
    int batch, head;
    int64_t row0;
};

template <int kRows, bool kLastFirst>
__device__ __forceinline__ Place place_of(int t, int tiles_down, int heads) {
    const int which = t / tiles_down, down = t % tiles_down;
    return {which / heads, which % heads, int64_t(kLastFirst ? tiles_down - 1 - down : down) * kRows};
}

// Tiles of kColumns columns, from .. to - 1, that some of a tile's rows see; all of them see whole_from .. whole_to - 1
// wholly.
struct Span { int from, to, whole_from, whole_to; };

// What the block's tile is of. It stays at the head of shared memory, where fields are read as they are asked, rather than
// in registers through the loop.
struct Subject {
    Sequence sequence;
    Span span;
    int64_t row0;
    int head;
};

__device__ __forceinline__ Subject& subject_in(unsigned char* shared) {
    static_assert(sizeof(Subject) <= kAttentionSm80Header);
    return *reinterpret_cast<Subject*>(shared);
}

template <int kColumns>
__device__ __forceinline__ Span span_of(int64_t begin, int64_t end, int64_t whole_begin, int64_t whole_end) {
    const int from = int(begin / kColumns), to = begin < end ? int((end + kColumns - 1) / kColumns) : from;
    return {from, to, int((whole_begin + kColumns - 1) / kColumns), int(whole_end / kColumns)};
}

// Rows first .. first + rows - 1 of the matrix of one head.
template <class T>
__device__ __forceinline__ Operand<T>
rows_of_head(const void* base, const AttentionStrides& s, int64_t batch, int64_t head, int64_t first, int64_t rows,
             int64_t columns, int copy) {
    const T* const data = static_cast<const T*>(base) + batch * s.batch + head * s.head + first * s.row;
    return {data, rows, columns, s.row, copy ? 1 : s.column, copy};
}

// The lane, for addresses that are to be computed here.
__device__ __forceinline__ int lane_here() { return ptx::opaque(int(threadIdx.x)) % 32; }

template <class T> constexpr bool kFloat = sizeof(T) == 4;  // as 3xTF32, or TF32

// Of an operand of float32: big, and small as well where it is not to be rounded to TF32.
template <int kN>
__device__ __forceinline__ void halves(uint32_t (&big)[kN], uint32_t (&small)[kN], bool tf32) {
    if (tf32) {
#pragma unroll
        for (int v = 0; v < kN; ++v) big[v] = ptx::cvt_rna_tf32(__uint_as_float(big[v]));
    } else {
#pragma unroll
        for (int v = 0; v < kN; ++v) split(big[v], big[v], small[v]);
    }
}

// sums += a b of one slice of float32; small products have sums of their own, where little is cut off.
__device__ __forceinline__ void multiply_halves(float (&sums)[4], float (&small_sums)[4], const uint32_t (&a)[4],
                                                const uint32_t (&a_small)[4], const uint32_t (&b)[2],
                                                const uint32_t (&b_small)[2], bool tf32) {
    mma(sums, a, b, float());
    if (!tf32) mma(small_sums, a_small, b, float()), mma(small_sums, a, b_small, float());
}

// Scores of a warp's 16 rows: sums += a b^T, a's rows from row0 on of one tile, b's rows another tile. Tensor cores cut
// off where they add: of float32, every 32 terms are summed by themselves.
template <class T, int kWidth, int kBlocks>
__device__ __forceinline__ void
row_products(float (&sums)[kBlocks][4], const unsigned char* a_tile, int row0, const unsigned char* b_tile, bool tf32) {
    constexpr int kRowBytes = kWidth * int(sizeof(T));
    const int lane = lane_here();
    if constexpr (kFloat<T>) {
        float small_sums[kBlocks][4] = {};
#pragma unroll 1
        for (int slice0 = 0; slice0 < kRowBytes / 32; slice0 += 4) {
            float some[kBlocks][4] = {};
#pragma unroll 1
            for (int slice = slice0; slice < slice0 + 4; ++slice) {
                uint32_t a[4], a_small[4], b[2][2], b_small[2][2];
                fragment_a<T, kRowBytes>(a, a_tile, row0, slice, lane);
                halves(a, a_small, tf32);
#pragma unroll
                for (int j = 0; j < kBlocks; j += 2) {
                    fragment_b_of_rows<T, kRowBytes>(b, b_tile, j * 8, slice, lane);
#pragma unroll
                    for (int i = 0; i < 2; ++i) {
                        halves(b[i], b_small[i], tf32);
                        multiply_halves(some[j + i], small_sums[j + i], a, a_small, b[i], b_small[i], tf32);
                    }
                }
            }
#pragma unroll
            for (int j = 0; j < kBlocks; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e) sums[j][e] += some[j][e];
        }
#pragma unroll
        for (int j = 0; j < kBlocks; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[j][e] += small_sums[j][e];
    } else {
#pragma unroll 4  // with all slices at once a few registers would be missing
        for (int slice = 0; slice < kRowBytes / 32; ++slice) {
            uint32_t a[4], b[2][2];
            fragment_a<T, kRowBytes>(a, a_tile, row0, slice, lane);
#pragma unroll
            for (int j = 0; j < kBlocks; j += 2) {
                fragment_b_of_rows<T, kRowBytes>(b, b_tile, j * 8, slice, lane);
                mma(sums[j], a, b[0], T{}), mma(sums[j + 1], a, b[1], T{});
            }
        }
    }
}

// Scores, rounded, as first operand.
template <class T, int kBlocks>
__device__ __forceinline__ void round_to(uint32_t (&a)[kBlocks / 2][4], const float (&x)[kBlocks][4]) {
#pragma unroll
    for (int j = 0; j < kBlocks; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half) a[j / 2][j % 2 * 2 + half] = pack<T>(x[j][half * 2], x[j][half * 2 + 1]);
}

// sums += x b, x scores, b a tile whose rows are x's columns. 16-bit: x rounded.
template <class T, int kWidth, int kBlocks>
__device__ __forceinline__ void
add_products(float (&sums)[kWidth / 8][4], const float (&x)[kBlocks][4], const unsigned char* b_tile, bool tf32) {
    constexpr int kRowBytes = kWidth * int(sizeof(T));
    if constexpr (kFloat<T>) {
        // A slice's k in another order, of both operands: t stands for column 2 t, t + 4 for 2 t + 1. Scores are then where
        // the first operand has them.
        // Two slices at a time: halves of more do not fit into registers.
#pragma unroll
        for (int s0 = 0; s0 < kBlocks; s0 += 2) {
            uint32_t a[2][4], a_small[2][4];
#pragma unroll
            for (int s = 0; s < 2; ++s) {
                const float (&from)[4] = x[s0 + s];
                a[s][0] = __float_as_uint(from[0]), a[s][1] = __float_as_uint(from[2]);
                a[s][2] = __float_as_uint(from[1]), a[s][3] = __float_as_uint(from[3]);
                halves(a[s], a_small[s], tf32);
            }
#pragma unroll
            for (int j = 0; j < kWidth / 8; ++j) {
                const int lane = lane_here();
                float some[4] = {}, small_sums[4] = {};
#pragma unroll
                for (int s = 0; s < 2; ++s) {
                    uint32_t b[2], b_small[2];
#pragma unroll
                    for (int v = 0; v < 2; ++v) {
                        const int row = (s0 + s) * 8 + lane % 4 * 2 + v;
                        b[v] = *reinterpret_cast<const uint32_t*>(
                            b_tile + chunk_offset<T, kRowBytes, false>(row, j * 2 + lane / 16) + lane / 4 % 4 * 4);
                    }
                    halves(b, b_small, tf32);
                    multiply_halves(some, small_sums, a[s], a_small[s], b, b_small, tf32);
                }
#pragma unroll
                for (int e = 0; e < 4; ++e) sums[j][e] += some[e] + small_sums[e];
            }
        }
    } else {
        uint32_t a[kBlocks / 2][4];
        round_to<T>(a, x);
        const int lane = lane_here();
#pragma unroll
        for (int slice = 0; slice < kBlocks / 2; ++slice)
#pragma unroll
            for (int j = 0; j < kWidth / 8; j += 2) {
                uint32_t b[2][2];
                fragment_b_of_columns<T, kRowBytes>(b, b_tile, j * 8, slice, lane);
                mma(sums[j], a[slice], b[0], T{}), mma(sums[j + 1], a[slice], b[1], T{});
            }
    }
}

// f(j, x[j]) for all blocks j in a loop that is not unrolled, for code too long to stand there once for each: registers
// have no index, so the blocks take turns at place 0.
template <int kBlocks, class F>
__device__ __forceinline__ void each_block(float (&x)[kBlocks][4], F f) {
#pragma unroll 1
    for (int j = 0; j < kBlocks; ++j) {
        float first[4] = {x[0][0], x[0][1], x[0][2], x[0][3]};
        f(j, first);
#pragma unroll
        for (int i = 0; i + 1 < kBlocks; ++i)
#pragma unroll
            for (int e = 0; e < 4; ++e) x[i][e] = x[i + 1][e];
#pragma unroll
        for (int e = 0; e < 4; ++e) x[kBlocks - 1][e] = first[e];
    }
}

// tanh but, of 16-bit types, for a few roundings of 1: as good as scores are, which lie about a cap that it is multiplied
// by.
template <class T>
__device__ __forceinline__ float cap_tanh(float x) {
    if constexpr (kFloat<T>) return tanhf(x);
    else return 1 - __fdividef(2.0f, 1 + ptx::ex2_approx_ftz(x * (2 * kLog2E)));
}

// Products become scores where there is no mask: by scale, cap and ALiBi. What a row may not see, `hide` takes out.
// kByKeys: rows are keys.
template <class T, int kBlocks, bool kByKeys>
__device__ __forceinline__ void scores_of(float (&x)[kBlocks][4], const AttentionProblem& p, const Sequence& sequence,
                                          int64_t head, int64_t row0, int64_t column0) {
    const AttentionFeatures& f = p.features;
    const float cap = float(f.softcap), factor = float(f.softcap != 0 ? p.scale / f.softcap : p.scale);
#pragma unroll
    for (int j = 0; j < kBlocks; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) x[j][e] *= factor;
    if (f.softcap != 0) {
#pragma unroll
        for (int j = 0; j < kBlocks; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) x[j][e] = cap * cap_tanh<T>(x[j][e]);
    }
    if (f.slopes) {
        const float slope = f.slopes[sequence.batch * f.slope_batch + head * f.slope_head];
        const int lane = lane_here();
        const int64_t shift = kByKeys ? -sequence.shift : sequence.shift;
        const float distance = float(row0 + lane / 4 + shift - column0 - lane % 4 * 2);  // of element 0, with its sign
#pragma unroll
        for (int j = 0; j < kBlocks; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e)
                x[j][e] = fmaf(-slope, fabsf(distance + float(e / 2 * 8 - j * 8 - e % 2)), x[j][e]);
    }
}

// -inf in place of the scores that a row may not see, be it for causality, a window or the sequence's end.
template <int kBlocks, bool kByKeys>
__device__ __forceinline__ void hide(float (&x)[kBlocks][4], const Sequence& sequence, int64_t row0, int64_t column0) {
    constexpr int64_t kColumns = kBlocks * 8;
    const int lane = lane_here();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int64_t row = row0 + half * 8 + lane / 4;
        const int64_t begin = kByKeys ? sequence.query_begin(row) : sequence.key_begin(row);
        const int64_t end = kByKeys ? sequence.query_end(row) : sequence.key_end(row);
        const int first = int(max(min(begin - column0, kColumns), int64_t(0))) - lane % 4 * 2;
        const int last = int(max(min(end - column0, kColumns), int64_t(0))) - lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < kBlocks; ++j)
#pragma unroll
            for (int e = 0; e < 2; ++e)
                if (j * 8 + e < first || j * 8 + e >= last) x[j][half * 2 + e] = -kInfinity<float>;
    }
}

// Products become scores where there is a mask, each element by itself. kByKeys: rows are keys.
template <class T, int kBlocks, bool kByKeys>
__device__ __forceinline__ void masked_scores(float (&x)[kBlocks][4], const AttentionProblem& p,
                                              const Sequence& sequence, int64_t head, int64_t row0, int64_t column0) {
    each_block(x, [&](int j, float (&some)[4]) {
        const int lane = lane_here();
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const int64_t row = row0 + e / 2 * 8 + lane / 4, column = column0 + j * 8 + lane % 4 * 2 + e % 2;
            float slope;  // of the cap, which gradients take from the products
            some[e] = score<T>(p, sequence, head, kByKeys ? column : row, kByKeys ? row : column, some[e], slope);
        }
    });
}

// A warp's 16 rows of results times factor[half], rounded, into its part of a tile it owns, and from there to rows row0 ..
// of the `rows` from `first` on of one head's matrix. Nobody else may read or write those 16 rows of the tile.
template <class T, int kWidth>
__device__ __forceinline__ void
store_rows(void* base, const AttentionStrides& s, int64_t batch, int64_t head, int64_t first, int64_t row0,
           int64_t rows, int64_t columns, bool vectors, const float (&sums)[kWidth / 8][4], const float (&factor)[2],
           unsigned char* tile, int tile_row) {
    constexpr int kRowBytes = kWidth * int(sizeof(T)), kPer = 16 / int(sizeof(T)), kChunks = kWidth / kPer;
    const int lane = lane_here();
    // Half a warp writes 8 bytes a lane at once, of float32 two chunks of each of four rows: kOuter's places.
    const auto staged = [&](int row, int chunk) { return tile + chunk_offset<T, kRowBytes, kFloat<T>>(row, chunk); };
    __syncwarp();
#pragma unroll
    for (int j = 0; j < kWidth / 8; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float first = sums[j][half * 2] * factor[half], second = sums[j][half * 2 + 1] * factor[half];
            const int row = tile_row + half * 8 + lane / 4;
            if constexpr (kFloat<T>)
                store_vector(reinterpret_cast<float*>(staged(row, j * 2 + lane % 4 / 2) + lane % 2 * 8),
                             Vector<float, 2>{{first, second}});
            else *reinterpret_cast<uint32_t*>(staged(row, j) + lane % 4 * 4) = pack<T>(first, second);
        }
    __syncwarp();
    T* const to = static_cast<T*>(base) + batch * s.batch + head * s.head + first * s.row;
#pragma unroll 4
    for (int i = lane; i < 16 * kChunks; i += 32) {
        const int r = i / kChunks, chunk = i % kChunks;
        const int64_t row = row0 + r;
        if (row >= rows || chunk * kPer >= columns) continue;
        const auto v = load_vector<kPer>(reinterpret_cast<const T*>(staged(tile_row + r, chunk)));
        T* const at = to + row * s.row + chunk * kPer * s.column;
        if (vectors && chunk * kPer + kPer <= columns) {
            store_vector(at, v);
        } else {
#pragma unroll
            for (int e = 0; e < kPer; ++e)
                if (chunk * kPer + e < columns) at[e * s.column] = v[e];
        }
    }
}

}  // namespace attention_sm80
