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

// The sequence that the block's tile is of. It stays at the head of shared memory, where fields are read as they are
// asked, rather than in registers through the loop.
__device__ __forceinline__ Sequence& sequence_in(unsigned char* shared) {
    static_assert(sizeof(Sequence) <= kAttentionSm80Header);
    return *reinterpret_cast<Sequence*>(shared);
}

// Tiles of kColumns columns, from .. to - 1, that some of a tile's rows see; all of them see whole_from .. whole_to - 1
// wholly.
struct Span { int from, to, whole_from, whole_to; };

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

// Scores of a warp's 16 rows: sums += a b^T, a's rows from row0 on of one tile, b's rows another tile.
template <class T, int kWidth, int kBlocks>
__device__ __forceinline__ void
row_products(float (&sums)[kBlocks][4], const unsigned char* a_tile, int row0, const unsigned char* b_tile) {
    const int lane = lane_here();
#pragma unroll 4  // with all slices at once a few registers would be missing
    for (int slice = 0; slice < kWidth / 16; ++slice) {
        uint32_t a[4], b[2][2];
        fragment_a<T, kWidth * 2>(a, a_tile, row0, slice, lane);
#pragma unroll
        for (int j = 0; j < kBlocks; j += 2) {
            fragment_b_of_rows<T, kWidth * 2>(b, b_tile, j * 8, slice, lane);
            mma(sums[j], a, b[0], T{}), mma(sums[j + 1], a, b[1], T{});
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

// sums += a b, b a tile whose rows are a's columns.
template <class T, int kWidth, int kBlocks>
__device__ __forceinline__ void
add_products(float (&sums)[kWidth / 8][4], const uint32_t (&a)[kBlocks / 2][4], const unsigned char* b_tile) {
    const int lane = lane_here();
#pragma unroll
    for (int slice = 0; slice < kBlocks / 2; ++slice)
#pragma unroll
        for (int j = 0; j < kWidth / 8; j += 2) {
            uint32_t b[2][2];
            fragment_b_of_columns<T, kWidth * 2>(b, b_tile, j * 8, slice, lane);
            mma(sums[j], a[slice], b[0], T{}), mma(sums[j + 1], a[slice], b[1], T{});
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

// tanh but for a few roundings of 1: as good as scores are, which lie about a cap that it is multiplied by.
__device__ __forceinline__ float quick_tanh(float x) {
    return 1 - __fdividef(2.0f, 1 + ptx::ex2_approx_ftz(x * (2 * kLog2E)));
}

// Products become scores where there is no mask: by scale, cap and ALiBi. What a row may not see, `hide` takes out.
// kByKeys: rows are keys.
template <int kBlocks, bool kByKeys>
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
            for (int e = 0; e < 4; ++e) x[j][e] = cap * quick_tanh(x[j][e]);
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
    constexpr int kRowBytes = kWidth * 2, kChunks = kWidth / 8;
    const int lane = lane_here();
    __syncwarp();
#pragma unroll
    for (int j = 0; j < kWidth / 8; ++j)
#pragma unroll
        for (int half = 0; half < 2; ++half)
            *reinterpret_cast<uint32_t*>(tile + chunk_offset<T, kRowBytes, false>(tile_row + half * 8 + lane / 4, j) +
                                         lane % 4 * 4) =
                pack<T>(sums[j][half * 2] * factor[half], sums[j][half * 2 + 1] * factor[half]);
    __syncwarp();
    T* const to = static_cast<T*>(base) + batch * s.batch + head * s.head + first * s.row;
#pragma unroll 4
    for (int i = lane; i < 16 * kChunks; i += 32) {
        const int r = i / kChunks, chunk = i % kChunks;
        const int64_t row = row0 + r;
        if (row >= rows || chunk * 8 >= columns) continue;
        const auto v =
            load_vector<8>(reinterpret_cast<const T*>(tile + chunk_offset<T, kRowBytes, false>(tile_row + r, chunk)));
        T* const at = to + row * s.row + chunk * 8 * s.column;
        if (vectors && chunk * 8 + 8 <= columns) {
            store_vector(at, v);
        } else {
#pragma unroll
            for (int e = 0; e < 8; ++e)
                if (chunk * 8 + e < columns) at[e * s.column] = v[e];
        }
    }
}

}  // namespace attention_sm80
