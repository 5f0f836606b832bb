// Attention on wgmma (sm_90a), FlashAttention-3's form (Shah et al. 2024): what forward and backward share.
//
// In shared memory a tile is boxes of 64 columns, one after another: rows of 128 bytes, swizzled, as TMA brings them. What
// lies outside of a head's matrix, or of a packed sequence's part of it, comes as zeros and is not stored to.
//
// Element v of a thread's 64 x N sums is row 16 * warp + g + 8 * (v / 2 % 2), column 8 * (v / 4) + 2 * t + v % 2, with
// g = lane / 4, t = lane % 4. Rounded to 16 bits they are the first operand of the next product.
#pragma once
#include "../device/convert.cuh"
#include "../device/reduce.cuh"
#include "../device/vector.cuh"
#include "../matmul/matmul_sm90_ring.cuh"
#include "attention_common.cuh"
#include "attention_sm90_config.h"

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define FASTNET_SM90A 1
#endif

namespace attention_sm90 {

using matmul_sm90::Ring;

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
constexpr int kRowBytes = 128, kBoxColumns = 64, kPartBytes = 64 * kRowBytes;  // part: a warpgroup's rows of a box

// A sequence and which keys its queries see, in 32 bits: there are at most 2^29 of either.
struct Reach {
    int q0, queries, k0, keys, shift, before, after;  // as in Sequence; before and after no farther than matters

    __device__ __forceinline__ explicit Reach(const Sequence& s)
        : q0(int(s.q0)),
          queries(int(s.queries)),
          k0(int(s.k0)),
          keys(int(s.keys)),
          shift(int(s.shift)),
          before(clamp(s.before)),
          after(clamp(s.after)) {}
    __device__ __forceinline__ int key_begin(int row) const { return max(0, row + before); }
    __device__ __forceinline__ int key_end(int row) const { return max(0, min(keys, row + after + 1)); }
    __device__ __forceinline__ int query_begin(int column) const { return max(0, column - after); }
    __device__ __forceinline__ int query_end(int column) const { return max(0, min(queries, column - before + 1)); }

  private:
    __device__ static int clamp(int64_t x) { return int(min(max(x, -(int64_t(1) << 30)), int64_t(1) << 30)); }
};
static_assert(sizeof(Reach) <= kAttentionSm90Reach);

// The tensor map of all heads' matrices in boxes of `box_rows` rows, dimensions (columns, rows, heads, batch). Of packed
// sequences (columns, rows of a window, windows, heads): window n is the box_rows tokens before token n. A box that begins
// late in its window, so as to end with a sequence's last token, has its other rows outside of the tensor, as those beyond
// a matrix are: neighbours' rows are neither read nor written.
template <class T>
ptx::TensorMap map_of(const void* data, const AttentionStrides& s, int64_t batch, int64_t heads, int64_t rows,
                      int64_t columns, int box_rows, bool packed) {
    ptx::TensorLayout t;
    t.element = std::is_same_v<T, __nv_bfloat16> ? ptx::Element::bf16 : ptx::Element::fp16;
    t.base = data, t.rank = 4, t.swizzle = ptx::Swizzle::span128;
    const auto bytes = [](int64_t size, int64_t stride) {
        return size == 1 ? 16 : uint64_t(stride) * sizeof(T);  // of a single one any will do
    };
    t.sizes[0] = uint64_t(columns), t.sizes[1] = uint64_t(rows), t.strides[1] = bytes(rows, s.row);
    t.sizes[2] = uint64_t(heads), t.strides[2] = bytes(heads, s.head);
    t.sizes[3] = uint64_t(batch), t.strides[3] = bytes(batch, s.batch);
    if (packed) {
        t.sizes[3] = t.sizes[2], t.strides[3] = t.strides[2];
        t.sizes[2] = uint64_t(rows) + 1, t.strides[2] = t.strides[1];
        t.sizes[1] = uint64_t(box_rows);
        t.base = reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(data) - t.sizes[1] * t.strides[1]);
    }
    t.box[0] = kBoxColumns, t.box[1] = uint32_t(box_rows);
    return ptx::tensor_map(t);
}
template <class T>
ptx::TensorMap
map_of_queries(const AttentionProblem& p, const void* data, const AttentionStrides& s, int64_t columns, int box_rows) {
    const bool packed = p.features.q_starts;
    return map_of<T>(data, s, packed ? 1 : p.batch, p.heads, packed ? p.features.query_tokens : p.queries, columns,
                     box_rows, packed);
}
template <class T>
ptx::TensorMap
map_of_keys(const AttentionProblem& p, const void* data, const AttentionStrides& s, int64_t columns, int box_rows) {
    const bool packed = p.features.q_starts;
    return map_of<T>(data, s, packed ? 1 : p.batch, p.key_heads, packed ? p.features.key_tokens : p.keys, columns,
                     box_rows, packed);
}

// The coordinates of a box of such a map beside its columns.
struct Box { int first, second, third; };

// Of kRows rows from row0 on of a sequence's `rows`, the first of which is token `begin`.
template <int kRows>
__device__ __forceinline__ Box box_at(const AttentionProblem& p, int batch, int head, int begin, int rows, int row0) {
    if (!p.features.q_starts) return {row0, head, batch};
    const int inside = min(max(rows - row0, 0), kRows);
    return {kRows - inside, begin + row0 + inside, head};
}
template <int kRows>
__device__ __forceinline__ Box box_of_queries(const AttentionProblem& p, const Reach& reach, int batch, int head,
                                              int row0) {
    return box_at<kRows>(p, batch, head, reach.q0, reach.queries, row0);
}
template <int kRows>
__device__ __forceinline__ Box box_of_keys(const AttentionProblem& p, const Reach& reach, int batch, int head,
                                           int row0) {
    return box_at<kRows>(p, batch, head, reach.k0, reach.keys, row0);
}

// The number of the lse and delta of a head's first query.
__device__ __forceinline__ int64_t first_statistic(const AttentionProblem& p, const Reach& reach, int batch, int head) {
    if (p.features.q_starts) return head * p.features.query_tokens + reach.q0;
    return (int64_t(batch) * p.heads + head) * p.queries;
}

// A box of rows, kWidth columns of them, to boxes of 64 columns that are kBoxBytes apart.
template <int kWidth, int kBoxBytes>
__device__ __forceinline__ void load_tile(unsigned char* to, const ptx::TensorMap* map, uint64_t* bar, const Box& box) {
#pragma unroll
    for (int i = 0; i < kWidth / kBoxColumns; ++i)
        ptx::tma_load_4d(to + i * kBoxBytes, map, bar, i * kBoxColumns, box.first, box.second, box.third);
}

// The t-th of all tiles of kRows rows. `together` heads are dealt out together: of each its last rows, then of each those
// before (or the first rows and those after), so that the tiles that take longest come first.
struct Order { int tiles_down, heads, together; };
struct Place { int batch, head, row0; };

template <int kRows, bool kLastFirst>
__device__ __forceinline__ Place place_of(int t, const Order& order, int heads_of_batch) {
    const int per_round = order.together * order.tiles_down, round = t / per_round, in_round = t - round * per_round;
    const int here = min(order.together, order.heads - round * order.together), down = in_round / here;
    const int which = round * order.together + in_round - down * here;
    return {which / heads_of_batch, which % heads_of_batch, (kLastFirst ? order.tiles_down - 1 - down : down) * kRows};
}

// The block's tile of its round-th turn: every other turn goes through the blocks backwards, so that who had the longest of
// one turn has the shortest of the next.
__device__ __forceinline__ int tile_of_turn(int round) {
    return round * int(gridDim.x) + (round % 2 ? int(gridDim.x) - 1 - int(blockIdx.x) : int(blockIdx.x));
}

template <class T, int kN, int kTransB>
__device__ __forceinline__ void wgmma(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, int scale_d = 1) {
    if constexpr (std::is_same_v<T, __half>) ptx::wgmma_fp16<kN, kTransB>(d, a, b, scale_d);
    else ptx::wgmma_bf16<kN, kTransB>(d, a, b, scale_d);
}
template <class T, int kN>
__device__ __forceinline__ void wgmma(float (&d)[kN / 2], uint64_t a, uint64_t b, int scale_d) {
    if constexpr (std::is_same_v<T, __half>) ptx::wgmma_fp16<kN>(d, a, b, scale_d);
    else ptx::wgmma_bf16<kN>(d, a, b, scale_d);
}

// sums = a b^T over kWidth columns: a, a warpgroup's 64 rows; b, kN rows of a tile.
template <class T, int kN, int kWidth>
__device__ __forceinline__ void row_products(float (&sums)[kN / 2], uint64_t a, uint64_t b) {
#pragma unroll
    for (int slice = 0; slice < kWidth / 16; ++slice)
        wgmma<T, kN>(sums, a + (slice / 4 * kPartBytes + slice % 4 * 32) / 16,
                     b + (slice / 4 * (kN * kRowBytes) + slice % 4 * 32) / 16, slice > 0);
}

// sums += a b: a, 64 x kK in registers; b, kK rows of a tile of kWidth columns.
template <class T, int kK, int kWidth>
__device__ __forceinline__ void add_products(float (&sums)[kWidth / 2], const uint32_t (&a)[kK / 16][4], uint64_t b) {
#pragma unroll
    for (int slice = 0; slice < kK / 16; ++slice)
        wgmma<T, kWidth, 1>(sums, a[slice], b + slice * (16 * kRowBytes) / 16);
}

// Descriptors of a tile's rows: as rows of a product, and as what a product sums over.
__device__ __forceinline__ uint64_t rows_descriptor(const unsigned char* tile) {
    return ptx::k_major_descriptor<ptx::Swizzle::span128>(ptx::shared_offset(tile));
}
template <int kBoxBytes>
__device__ __forceinline__ uint64_t columns_descriptor(const unsigned char* tile) {
    return ptx::mn_major_descriptor<ptx::Swizzle::span128>(ptx::shared_offset(tile), kBoxBytes);
}

// Sums, rounded, as first operand.
template <class T, int kN>
__device__ __forceinline__ void round_to(uint32_t (&a)[kN / 16][4], const float (&x)[kN / 2]) {
#pragma unroll
    for (int i = 0; i < kN / 4; ++i) a[i / 4][i % 4] = pack<T>(x[2 * i], x[2 * i + 1]);
}

template <int kSlices>
__device__ __forceinline__ void wgmma_registers(uint32_t (&a)[kSlices][4]) {
#pragma unroll
    for (int i = 0; i < kSlices; ++i) ptx::wgmma_registers(a[i]);
}

// Warpgroups take turns: one issues its products while the others are at their softmax. Each warpgroup as often as the
// others, in their order; end() once, when all are through.
template <int kGroups>
struct Turns {
    static constexpr int kFirstBarrier = 1 + kGroups;  // 1 .. kGroups are the warpgroups' own
    int group;

    __device__ __forceinline__ void begin() const {
        if (group == kGroups - 1) ptx::bar_arrive(kFirstBarrier, 256);
    }
    __device__ __forceinline__ void take() const { ptx::bar_sync(kFirstBarrier + group, 256); }
    __device__ __forceinline__ void pass() const {
        ptx::bar_arrive(kFirstBarrier + (group + 1 == kGroups ? 0 : group + 1), 256);
    }
    __device__ __forceinline__ void end() const {
        if (group == 0) take();
    }
};

// A warpgroup's 64 x kWidth results times factor[half], rounded, by way of `staging` to a box of 64 rows, `any` of which
// there are. The staging is free again once its first thread has waited for its stores to have read. `thread`: in the
// warpgroup.
template <class T, int kWidth>
__device__ __forceinline__ void
store_rows(const ptx::TensorMap* map, const float (&sums)[kWidth / 2], const float (&factor)[2], unsigned char* staging,
           int thread, int barrier, bool any, int columns, const Box& box) {
    const int lane = thread % 32, row = thread / 32 * 16 + lane % 16;
    if (thread == 0) ptx::tma_store_wait_read<0>();
    ptx::bar_sync(barrier, 128);
#pragma unroll
    for (int j = 0; j < kWidth / 16; ++j) {
        uint32_t r[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int v = j * 8 + i * 2;
            r[i] = pack<T>(sums[v] * factor[i % 2], sums[v + 1] * factor[i % 2]);
        }
        const int chunk = j % 4 * 2 + lane / 16;
        ptx::stmatrix_x4(staging + j / 4 * kPartBytes + row * kRowBytes + ((chunk ^ (row & 7)) << 4), r);
    }
    ptx::fence_proxy_async();
    ptx::bar_sync(barrier, 128);
    if (thread == 0) {
        for (int i = 0; i * kBoxColumns < columns && any; ++i)
            ptx::tma_store_4d(map, staging + i * kPartBytes, i * kBoxColumns, box.first, box.second, box.third);
        ptx::tma_store_commit();
    }
}

}  // namespace attention_sm90
