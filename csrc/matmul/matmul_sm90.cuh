// Matrix products on wgmma (sm_90a): one warpgroup brings tiles, the others multiply them.
//
// The producer fills a ring of stages (matmul_sm90_ring.cuh), by TMA where an operand's rows begin at multiples of 16 bytes,
// else by its 128 threads, with cp.async or single loads, into the same swizzled tiles. The blocks of a cluster have tiles
// below one another: each brings its half of b's tile to both by multicast. Consumers multiply, and take their sums out
// while the producer already fills the stages of the next tile.
//
// Blocks take segments: a tile of a product and a range of its steps along k. A segment that is a whole tile goes through
// the epilogue; parts of tiles (split, stream_k) leave their sums in the workspace, and a second kernel adds them in the
// order of k. No block waits for one of another cluster: no flags to clear, and the order of sums is fixed.
//
// Sums of a's rows (the gradient of a bias beside its weight's) are taken from the stages by the consumers of the first tile
// column, in ordinary additions beside wgmma.
#pragma once
#include "../device/block_product.cuh"
#include "matmul_sm90_results.cuh"

namespace matmul_sm90 {

constexpr int kSumRun = 4;                       // in the second pass, where it reads as many floats: a warp then reads whole sectors

// An operand in global memory, as rows of neighbours: rows of k, or of the outer dimension (the one that is not k).
struct Operand {
    const void* data;
    int rows, columns;
    int64_t row_stride, column_stride;           // columns are neighbours: column_stride is 1 unless copy is 0
    bool outer;                                  // rows are k's, neighbours the outer dimension's
    bool tma;
    int rank;                                    // of the tensor map: columns, rows, then at most three
    int batch[3];                                // dimensions of the batch, -1 where the map has no such dimension
    int copy;                                    // bytes that cp.async may copy at once: 16, 8 or 4; 0: single elements
};

struct Plan {
    MatmulSm90Work work;
    Operand a, b;
    MatmulRuns runs;
    int stages;
    bool store;                                  // results leave by TMA: nothing is added to them
};

// The unit that comes t-th among those of one product: clusters that run together have 16 tile rows, column after column,
// so that their operands share the L2.
struct Position {
    int row, column;
};
__device__ __forceinline__ Position position_of(int t, const MatmulSm90Work& w) {
    const int rows = 16 / w.cluster, group = t / (rows * w.tiles_across), in_group = t - group * rows * w.tiles_across;
    const int group_rows = min(rows, w.units_down - group * rows), column = in_group / group_rows;
    return {group * rows + in_group - column * group_rows, column};
}

struct Segment {
    int product, row0, column0;
    int from, to;                                // steps
    int64_t slot;                                // of the workspace; -1: the whole tile, which goes through the epilogue
};

// A block's segments, in the order in which its producer and its consumers walk through them.
class Segments {
  public:
    __device__ __forceinline__ explicit Segments(const MatmulSm90Work& w) : w(w) {
        const int cluster = int(blockIdx.x) / w.cluster;
        next = w.stream_clusters ? w.stream_begin(cluster) : cluster;
        end = w.stream_clusters ? w.stream_begin(cluster + 1) : w.units * w.split;
    }
    __device__ __forceinline__ bool take(Segment& s, int rows, int columns) {
        if (next >= end) return false;
        const int rank = int(blockIdx.x) % w.cluster;
        int unit;
        s.slot = -1;
        if (w.stream_clusters) {
            unit = next / w.steps, s.from = next - unit * w.steps, s.to = min(w.steps, s.from + end - next);
            if (s.from > 0 || s.to < w.steps) s.slot = 2 * int(blockIdx.x) + (s.from == 0);
            next += s.to - s.from;
        } else {
            const int part = next / w.units;
            unit = next - part * w.units;
            s.from = int(int64_t(w.steps) * part / w.split), s.to = int(int64_t(w.steps) * (part + 1) / w.split);
            if (w.split > 1) s.slot = int64_t(next) * w.cluster + rank;
            next += int(gridDim.x) / w.cluster;
        }
        const int per_product = w.units_down * w.tiles_across;
        s.product = unit / per_product;
        const Position position = position_of(unit - s.product * per_product, w);
        s.row0 = (position.row * w.cluster + rank) * rows, s.column0 = position.column * columns;
        return true;
    }

  private:
    const MatmulSm90Work& w;
    int next, end;
};

// ---- producer ----------------------------------------------------------------------------------------------------

// Where a product lies in an operand's tensor map, and in memory.
struct Place {
    int c[3];
    int64_t offset;
};
__device__ __forceinline__ Place place(const MatmulArguments& x, const Operand& o, const int64_t* strides, int product) {
    Place p{};
    for (int d = x.batch_rank - 1; d >= 0; --d) {
        const int size = int(x.batch_shape[d]), rest = product / size, index = product - rest * size;
        product = rest;
        p.offset += index * strides[d];
#pragma unroll
        for (int j = 0; j < 3; ++j)
            if (o.batch[j] == d) p.c[j] = index;
    }
    return p;
}

__device__ __forceinline__ void load_box(void* to, const ptx::TensorMap* map, uint64_t* bar, const Operand& o, const Place& p,
                                         int column, int row, bool both) {
    constexpr uint16_t kBoth = 3;
    switch (o.rank) {
        case 2:
            return both ? ptx::tma_load_2d_multicast(to, map, bar, kBoth, column, row)
                        : ptx::tma_load_2d(to, map, bar, column, row);
        case 3:
            return both ? ptx::tma_load_3d_multicast(to, map, bar, kBoth, column, row, p.c[0])
                        : ptx::tma_load_3d(to, map, bar, column, row, p.c[0]);
        case 4:
            return both ? ptx::tma_load_4d_multicast(to, map, bar, kBoth, column, row, p.c[0], p.c[1])
                        : ptx::tma_load_4d(to, map, bar, column, row, p.c[0], p.c[1]);
        default:
            return both ? ptx::tma_load_5d_multicast(to, map, bar, kBoth, column, row, p.c[0], p.c[1], p.c[2])
                        : ptx::tma_load_5d(to, map, bar, column, row, p.c[0], p.c[1], p.c[2]);
    }
}

// A tile of `size` rows of a (columns of b) and 64 k, or, for both blocks of a cluster, this block's half of it.
__device__ __forceinline__ void load_tile(unsigned char* to, const ptx::TensorMap* map, uint64_t* bar, const Operand& o,
                                          const Place& p, int outer, int k, int size, bool both) {
    const int rank = both ? int(ptx::cluster_rank()) : 0;
    if (o.outer) {
        const int half = rank * 32;              // of k
#pragma unroll 1
        for (int i = 0; i < size; i += 64)
            load_box(to + i * kRowBytes + half * kRowBytes, map, bar, o, p, outer + i, k + half, both);
    } else {
        const int half = rank * size / 2;
        load_box(to + half * kRowBytes, map, bar, o, p, k, outer + half, both);
    }
}

// `rows` rows of 64 neighbours by the producer's threads, as TMA would leave them. What lies outside is 0.
template <class T>
__device__ __forceinline__ void copy_box(unsigned char* to, const Operand& o, const T* data, int rows, int row0, int column0) {
    const int bytes = o.copy ? o.copy : 16, shift = bytes == 16 ? 3 : bytes == 8 ? 4 : 5;      // 1 << shift pieces of a row
#pragma unroll 1
    for (int i = int(threadIdx.x); i < rows << shift; i += 128) {
        const int row = i >> shift, at = (i - (row << shift)) * bytes, column = column0 + at / 2;
        const int left = row0 + row < o.rows ? o.columns - column : 0;
        const T* const from = data + (row0 + row) * o.row_stride + column * o.column_stride;
        unsigned char* const target = to + row * kRowBytes + (at ^ (row & 7) << 4);
        if (o.copy) {
            const int valid = min(max(left * 2, 0), bytes);
            const T* const source = valid ? from : data;
            if (bytes == 16) ptx::cp_async_16_cg(target, source, valid);
            else if (bytes == 8) ptx::cp_async_8(target, source, valid);
            else ptx::cp_async_4(target, source, valid);
        } else {
            Vector<T, 8> v;
#pragma unroll
            for (int j = 0; j < 8; ++j) v[j] = j < left ? from[j * o.column_stride] : T(0.0f);
            store_vector(reinterpret_cast<T*>(target), v);
        }
    }
}
template <class T>
__device__ __forceinline__ void copy_tile(unsigned char* to, const Operand& o, const T* data, int outer, int k, int size) {
    if (!o.outer) return copy_box(to, o, data, size, outer, k);
#pragma unroll 1
    for (int i = 0; i < size; i += 64) copy_box(to + i * kRowBytes, o, data, 64, k, outer + i);
}

// Where TMA takes both operands: by one thread.
template <class Mine>
__device__ __forceinline__ void produce(const MatmulArguments& x, const Plan& plan, const ptx::TensorMap* map_a,
                                        const ptx::TensorMap* map_b, unsigned char* stages, Ring ring) {
    const bool both = plan.work.cluster > 1;
    Segments segments(plan.work);
    Segment s;
    while (segments.take(s, Mine::kRows, Mine::kColumns)) {
        const Place at_a = place(x, plan.a, x.a_batch, s.product), at_b = place(x, plan.b, x.b_batch, s.product);
#pragma unroll 1
        for (int k = s.from * kStep; k < s.to * kStep; k += kStep) {
            ring.wait_empty();
            unsigned char* const a = stages + ring.stage * Mine::kStage;
            uint64_t* const full = &ring.full[ring.stage];
            ptx::mbarrier_arrive_expect_tx(full, Mine::kStage);
            load_tile(a, map_a, full, plan.a, at_a, s.row0, k, Mine::kRows, false);
            load_tile(a + Mine::kABytes, map_b, full, plan.b, at_b, s.column0, k, Mine::kColumns, both);
            ring.advance();
        }
    }
}

// Where it does not: by all 128, one of which issues the TMA loads of the operand that has some.
template <class T, class Mine>
__device__ __forceinline__ void produce_by_threads(const MatmulArguments& x, const Plan& plan, const ptx::TensorMap* map_a,
                                                   const ptx::TensorMap* map_b, unsigned char* stages, Ring ring) {
    Copies copies(ring);
    Segments segments(plan.work);
    Segment s;
    while (segments.take(s, Mine::kRows, Mine::kColumns)) {
#pragma unroll 1
        for (int k = s.from * kStep; k < s.to * kStep; k += kStep) {
            ring.wait_empty();
#pragma unroll 1
            for (int which = 0; which < 2; ++which) {
                const Operand& o = which ? plan.b : plan.a;
                const int outer = which ? s.column0 : s.row0, size = which ? Mine::kColumns : Mine::kRows;
                unsigned char* const to = stages + ring.stage * Mine::kStage + which * Mine::kABytes;
                const Place at = place(x, o, which ? x.b_batch : x.a_batch, s.product);
                if (!o.tma) {
                    copy_tile(to, o, static_cast<const T*>(o.data) + at.offset, outer, k, size);
                } else if (threadIdx.x == 0) {
                    uint64_t* const full = &ring.full[ring.stage];
                    const bool both = which && plan.work.cluster > 1;
                    ptx::mbarrier_arrive_expect_tx(full, uint32_t(size * kRowBytes));
                    load_tile(to, which ? map_b : map_a, full, o, at, outer, k, size, both);
                }
            }
            copies.next_stage();
            ring.advance();
        }
    }
    copies.finish();
}

// ---- sums of rows --------------------------------------------------------------------------------------------------

// Sums of a warpgroup's 64 rows of a, from the stages that its products are read from: every stage by itself, stages with
// compensation.
template <class T, bool kOuter>
struct RowSums {
    // Outer: lane i of every warp has rows 2 i and 2 i + 1, and the warp 16 of a stage's 64 k, a row of 128 bytes at once.
    // k: threads 2 i and 2 i + 1 have halves of row i; eight lanes read eight chunks of different banks.
    static constexpr int kThreadRows = kOuter ? 2 : 1, kParts = kOuter ? 4 : 2;
    static constexpr int kPitch = 80;            // staged, from part to part: the two of neighbouring threads in different banks
    float total[kThreadRows] = {}, rest[kThreadRows] = {};

    // `part`: the warpgroup's 64 rows in a stage. `thread`: in the warpgroup.
    __device__ __forceinline__ void add(const unsigned char* part, int thread) {
        if constexpr (kOuter) {
#pragma unroll 4
            for (int i = 0; i < 16; ++i) {
                const int k = thread / 32 * 16 + i, at = thread % 32 * 4 ^ (k & 7) << 4;
                const Vector<T, 2> pair = load_vector<2>(reinterpret_cast<const T*>(part + k * kRowBytes + at));
                rest[0] += convert<float>(pair[0]), rest[1] += convert<float>(pair[1]);
            }
        } else {
            const int row = thread / 2;
#pragma unroll 1
            for (int i = 0; i < 4; ++i) {
                const int chunk = thread % 2 * 4 + i;
                float some[8];
                load_run(some, reinterpret_cast<const T*>(part + row * kRowBytes + ((chunk ^ (row & 7)) << 4)));
#pragma unroll
                for (int j = 0; j < 8; ++j) rest[0] += some[j];
            }
        }
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) fold_into(total[i], rest[i]);
        __syncwarp();                            // one lane releases the stage for all
    }

    // staged: (kParts, kPitch)
    __device__ __forceinline__ void stage(float* staged, int thread) const {
        const int part = kOuter ? thread / 32 : thread % 2, row = kOuter ? thread % 32 * 2 : thread / 2;
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) staged[part * kPitch + row + i] = total[i] + rest[i];
    }
};

// ---- epilogue ------------------------------------------------------------------------------------------------------

// Where c and the residual of a product lie: matmul_offsets in 32-bit divisions.
__device__ __forceinline__ MatmulOffsets offsets(const MatmulArguments& x, int product) {
    MatmulOffsets at{};
    for (int d = x.batch_rank - 1; d >= 0; --d) {
        const int size = int(x.batch_shape[d]), rest = product / size, index = product - rest * size;
        product = rest;
        at.c += index * x.c.batch[d], at.residual += index * x.residual.batch[d];
    }
    return at;
}

// ---- the kernel ----------------------------------------------------------------------------------------------------

template <class T, int kDown, int kAcross, int kN>
__global__ void __launch_bounds__(Tile<kDown, kAcross, kN>::kThreads, 1)
matmul_sm90_kernel(const __grid_constant__ MatmulArguments x, const __grid_constant__ Plan plan,
                   const __grid_constant__ ptx::TensorMap map_a, const __grid_constant__ ptx::TensorMap map_b,
                   const __grid_constant__ ptx::TensorMap map_out) {
#ifdef FASTNET_SM90A
    using Mine = Tile<kDown, kAcross, kN>;
    GPU_SHARED(shared);                          // (stages, kStage), (kConsumers, staging), (2, stages) mbarriers
    const int cluster = plan.work.cluster;
    Ring ring = Mine::ring(shared, plan.stages);
    if (threadIdx.x == 0) {
        const bool by_tma = plan.a.tma || plan.b.tma, by_threads = !plan.a.tma || !plan.b.tma;
        ring.init(int(by_tma) + (by_threads ? 4 : 0), 4 * Mine::kConsumers * cluster);
    }
    if (cluster > 1) ptx::cluster_sync();
    else __syncthreads();

    if (threadIdx.x < 128) {
        if constexpr (Mine::kConsumers > 1) ptx::setmaxnreg_dec<56>();
        if (!plan.a.tma || !plan.b.tma) produce_by_threads<T, Mine>(x, plan, &map_a, &map_b, shared, ring);
        else if (threadIdx.x == 0) produce<Mine>(x, plan, &map_a, &map_b, shared, ring);
        __syncwarp();
    } else {
        if constexpr (Mine::kConsumers > 1) ptx::setmaxnreg_inc<224>();
        const int consumer = int(threadIdx.x) / 128 - 1, down = consumer / kAcross, across = consumer % kAcross;
        const uint32_t a = ptx::shared_offset(shared) + uint32_t(down * kBox);
        const uint32_t b = ptx::shared_offset(shared) + uint32_t(Mine::kABytes + across * kN * kRowBytes);
        Results<T, kN> results = Mine::template results<T>(shared, plan.stages, consumer);
        Segments segments(plan.work);
        Segment s;
        while (segments.take(s, Mine::kRows, Mine::kColumns)) {
            float sums[kN / 2];
            const int row0 = s.row0 + down * 64, column0 = s.column0 + across * kN;
            float* const part = s.slot < 0 ? nullptr : static_cast<float*>(x.workspace) + s.slot * plan.work.slot_floats;
            const bool sums_rows = x.row_sums && column0 == 0;
            const auto product = [&](auto a_outer, auto b_outer) {
                RowSums<T, a_outer.value> rows;
                multiply<T, kN, a_outer.value, b_outer.value, Mine::kStage>(
                    sums, ring, descriptor<a_outer.value>(a), descriptor<b_outer.value>(b), s.to - s.from, cluster,
                    [&](int stage) {
                        if (sums_rows) rows.add(shared + stage * Mine::kStage + down * kBox, results.thread);
                    });
                if (sums_rows)
                    results.leave_row_sums(rows, x, s.product, row0,
                                           part ? part + Mine::kRows * Mine::kColumns + down * 64 : nullptr);
            };
            if (plan.a.outer) {
                plan.b.outer ? product(std::true_type(), std::true_type()) : product(std::true_type(), std::false_type());
            } else {
                plan.b.outer ? product(std::false_type(), std::true_type()) : product(std::false_type(), std::false_type());
            }

            if (part) results.leave(sums, part + down * 64 * Mine::kColumns + across * kN, Mine::kColumns);
            else if (!plan.store) {
                const MatmulOffsets at = offsets(x, s.product);
                results.finish(sums, plan.runs.out, [&](int row, int column, auto& value) {
                    if (row0 + row >= x.m || column0 + column >= x.n) return;
                    matmul_finish_run<T>(x, plan.runs, at, s.product, row0 + row, column0 + column, value);
                });
            }
            else if (x.wide_out)
                results.template store<true>(sums, float(x.alpha), &map_out, s.product, row0, column0, x);
            else results.template store<false>(sums, float(x.alpha), &map_out, s.product, row0, column0, x);
        }
        if (results.thread == 0) ptx::tma_store_wait_read<0>();
        __syncwarp();
    }
    if (cluster > 1) ptx::cluster_sync();        // the other block may still arrive here, and bring its half
#endif
}

// Adds the parts of tiles in the order of k. A block has 16 rows of a tile of (rows, columns).
template <class T>
__global__ void __launch_bounds__(256)
matmul_sm90_combine_kernel(MatmulArguments x, MatmulSm90Work w, int rows, int columns, MatmulRuns runs) {
#ifdef FASTNET_SM90A
    const int tile = int(blockIdx.x) / (rows / 16), unit = tile / w.cluster, rank = tile % w.cluster;
    int first = 0, last = w.split - 1;
    if (w.stream_clusters) {
        first = w.stream_holder(unit * w.steps), last = w.stream_holder(unit * w.steps + w.steps - 1);
        if (first == last) return;               // a whole tile: done
    }
    const int per_product = w.units_down * w.tiles_across, product = unit / per_product;
    const Position position = position_of(unit - product * per_product, w);
    const int row0 = int(blockIdx.x % (rows / 16)) * 16;
    const MatmulOffsets at = matmul_offsets(x, product);
    const auto sum = [&](auto count, int row, int column) {
        constexpr int kCount = decltype(count)::value;
        const int m = (position.row * w.cluster + rank) * rows + row, n = position.column * columns + column;
        if (m >= x.m || n >= x.n) return;
        float value[kCount] = {}, row_total = 0, row_rest = 0;
        for (int part = first; part <= last; ++part) {
            const int64_t slot = w.stream_clusters ? 2 * (part * w.cluster + rank) + (part == first)
                                                   : (int64_t(part) * w.units + unit) * w.cluster + rank;
            const float* const from = static_cast<const float*>(x.workspace) + slot * w.slot_floats;
            float more[kCount];
            load_run(more, from + row * columns + column);
#pragma unroll
            for (int i = 0; i < kCount; ++i) value[i] += more[i];
            if (x.row_sums && n == 0) row_rest += from[rows * columns + row], fold_into(row_total, row_rest);
        }
        if (x.row_sums && n == 0) static_cast<T*>(x.row_sums)[int64_t(product) * x.m + m] = convert<T>(row_total + row_rest);
        matmul_finish_run<T>(x, kCount > 1 ? runs : MatmulRuns{}, at, product, m, n, value);
    };
    if (runs.out)
        for (int i = int(threadIdx.x); i < 16 * columns / kSumRun; i += 256)
            sum(std::integral_constant<int, kSumRun>(), row0 + i / (columns / kSumRun), i % (columns / kSumRun) * kSumRun);
    else
        for (int i = int(threadIdx.x); i < 16 * columns; i += 256)
            sum(std::integral_constant<int, 1>(), row0 + i / columns, i % columns);
#endif
}

// ---- launch ----------------------------------------------------------------------------------------------------------

// An operand and, where TMA can take it, its tensor map; `share` blocks bring a tile of `outer_tile` together.
template <class T>
Operand operand(ptx::TensorMap& map, const MatmulArguments& x, const void* data, int64_t outer, int64_t outer_stride,
                int64_t k_stride, const int64_t* batch_strides, int outer_tile, int share) {
    int64_t strides[kMatmulBatchRank];
    int count = 0;
    for (int d = 0; d < x.batch_rank; ++d)
        if (x.batch_shape[d] > 1) strides[count++] = batch_strides[d];
    const MatmulOperand layout = matmul_operand(reinterpret_cast<uintptr_t>(data), outer, x.k, outer_stride, k_stride, strides,
                                                count, int(sizeof(T)));
    Operand o{data, int(outer), int(x.k), outer_stride, k_stride, layout.major == MatmulMajor::outer, false, 2, {-1, -1, -1}, 0};
    if (o.outer) std::swap(o.rows, o.columns), std::swap(o.row_stride, o.column_stride);
    if (layout.major == MatmulMajor::none) return o;
    o.column_stride = 1;                         // a single column's stride may be anything
    o.copy = layout.alignment >= 4 ? layout.alignment : 0;

    // TMA: rows apart by a multiple of 16 bytes and not into one another, and at most three dimensions more.
    constexpr int64_t kMost = (1ll << 40) / int64_t(sizeof(T));
    o.tma = layout.alignment == 16 && x.k > 0 && (o.rows == 1 || (o.row_stride >= o.columns && o.row_stride < kMost));
    ptx::TensorLayout t;
    t.element = kElement<T>, t.base = data, t.swizzle = ptx::Swizzle::span128;
    t.sizes[0] = uint64_t(o.columns), t.sizes[1] = uint64_t(o.rows);
    t.strides[1] = o.rows == 1 ? 16 : uint64_t(o.row_stride) * sizeof(T);
    t.box[0] = 64, t.box[1] = uint32_t((o.outer ? 64 : outer_tile) / share);
    for (int d = 0; d < x.batch_rank && o.tma; ++d) {
        const int64_t stride = batch_strides[d];
        if (x.batch_shape[d] <= 1 || stride == 0) continue;
        o.tma = stride > 0 && stride < kMost && o.rank < 5;
        if (!o.tma) break;
        o.batch[o.rank - 2] = d;
        t.sizes[o.rank] = uint64_t(x.batch_shape[d]), t.strides[o.rank] = uint64_t(stride) * sizeof(T);
        ++o.rank;
    }
    t.rank = o.rank;
    if (o.tma) map = ptx::tensor_map(t);
    return o;
}

// Whether results may leave by TMA, and their tensor map: (batch, m, n), a box of 64 rows of 128 bytes.
template <class Out>
bool out_map(ptx::TensorMap& map, const MatmulArguments& x, int64_t batch) {
    const bool plain = !x.c.data && !x.residual.data && !x.bias && !x.preactivation && x.activation.kind == Activation::none;
    if (!plain || x.n * sizeof(Out) % 16 || reinterpret_cast<uintptr_t>(x.out) % 16) return false;
    ptx::TensorLayout t;
    t.element = kElement<Out>, t.base = x.out, t.rank = 3, t.swizzle = ptx::Swizzle::span128;
    t.sizes[0] = uint64_t(x.n), t.sizes[1] = uint64_t(x.m), t.sizes[2] = uint64_t(batch);
    t.strides[1] = uint64_t(x.n) * sizeof(Out), t.strides[2] = t.strides[1] * uint64_t(x.m);
    t.box[0] = 128 / sizeof(Out), t.box[1] = 64;
    if (t.strides[2] >= 1ull << 40) return false;
    map = ptx::tensor_map(t);
    return true;
}

template <class T, int kDown, int kAcross, int kN>
void launch_tile(const MatmulArguments& x, const MatmulConfig& config, cudaStream_t stream) {
    using Mine = Tile<kDown, kAcross, kN>;
    int64_t batch = 1;
    for (int d = 0; d < x.batch_rank; ++d) batch *= x.batch_shape[d];
    ptx::TensorMap map_a{}, map_b{}, map_out{};
    Plan plan{};
    plan.a = operand<T>(map_a, x, x.a, x.m, x.a_row, x.a_k, x.a_batch, Mine::kRows, 1);
    plan.b = operand<T>(map_b, x, x.b, x.n, x.b_column, x.b_k, x.b_batch, Mine::kColumns, config.cluster);
    plan.work = matmul_sm90_work(config, batch, x.m, x.n, x.k, x.row_sums != nullptr);
    plan.runs = matmul_runs<T, kRun>(x);
    plan.stages = config.stages;
    plan.store = x.wide_out ? out_map<float>(map_out, x, batch) : out_map<T>(map_out, x, batch);
    const MatmulSm90Work& w = plan.work;
    if (!w.units) return;
    const int most = std::max(1, config.max_blocks / w.cluster);
    const dim3 grid(unsigned((w.stream_clusters ? w.stream_clusters : std::min(w.units * w.split, most)) * w.cluster));
    const dim3 block(Mine::kThreads);
    const unsigned bytes = unsigned(matmul_sm90_shared_bytes(config));
    constexpr auto kKernel = matmul_sm90_kernel<T, kDown, kAcross, kN>;
    if (w.cluster > 1)
        gpu::launch_cluster<kKernel>(dim3(unsigned(w.cluster)), grid, block, bytes, stream, x, plan, map_a, map_b, map_out);
    else gpu::launch<kKernel>(grid, block, bytes, stream, x, plan, map_a, map_b, map_out);
    if (w.whole()) return;
    gpu::launch<matmul_sm90_combine_kernel<T>>(dim3(unsigned(w.units) * unsigned(w.cluster * (Mine::kRows / 16))), dim3(256), 0, stream,
                                               x, w, Mine::kRows, Mine::kColumns, matmul_runs<T, kSumRun>(x));
}

template <class T>
void launch(const MatmulArguments& x, const MatmulConfig& config, cudaStream_t stream) {
    switch (config.rows * 1000 + config.columns) {
        case 128256: return launch_tile<T, 2, 1, 256>(x, config, stream);
        case 128192: return launch_tile<T, 2, 1, 192>(x, config, stream);
        case 128128: return launch_tile<T, 2, 1, 128>(x, config, stream);
        case 128064: return launch_tile<T, 2, 1, 64>(x, config, stream);
        case 64256: return launch_tile<T, 1, 2, 128>(x, config, stream);
        case 64128: return launch_tile<T, 1, 2, 64>(x, config, stream);
        default: return launch_tile<T, 1, 1, 64>(x, config, stream);
    }
}

}  // namespace matmul_sm90
