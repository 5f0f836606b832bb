// The general attention kernels: one source for every dtype, layout and head dimension, on ordinary multiply-adds.
//
// Forward: a block has 32 queries of one head and walks over the keys, 32 at a time, with an online softmax. Backward: one
// kernel has 32 queries and walks over keys for dq, another 32 keys and walks over queries for dk and dv; both compute
// the probabilities again from q, k and lse. Every sum therefore has one owner.
#include "../device/philox.cuh"
#include "../device/reduce.cuh"
#include "attention_common.cuh"

namespace {

constexpr int kTile = kAttentionTile, kPitch = kAttentionPitch, kThreads = kAttentionThreads;
constexpr int kRows = 2, kColumns = 4;     // of a tile, a thread's
constexpr int kAcross = kTile / kColumns;  // threads that share a row of a tile
constexpr int kTeam = kThreads / kTile;    // threads that share a row of the softmax
static_assert(kAcross == 8 && kTeam == 4 && kPitch % 4 == 1);

// Elements from a row of results to the next, at most three more than its columns: 4 n + 1 (see tile_row).
__device__ __forceinline__ int64_t results_pitch(int64_t columns) { return (columns + 2) / 4 * 4 + 1; }

// The block's shared memory.
template <class A>
struct Shared {
    A *left, *right;        // (kTile, kPitch): operands of a product
    A *p, *ds;              // (kTile, kPitch): probabilities and gradients of scores
    A *max, *sum, *factor;  // (kTile,)
    A* results;             // (kTile, results_pitch(columns))

    __device__ explicit Shared(unsigned char* base) {
        A* at = reinterpret_cast<A*>(base);
        left = at, right = left + kTile * kPitch, p = right + kTile * kPitch, ds = p + kTile * kPitch;
        max = ds + kTile * kPitch, sum = max + kTile, factor = sum + kTile, results = factor + kTile;
    }
};

// A thread's part of a 32 x 32 tile: rows row(0), row(1), columns column(0) .. column(3). A warp has four rows at a time,
// eight apart: with a pitch of 4 n + 1, eight neighbours of each lie in banks that the other rows' leave free.
__device__ __forceinline__ int tile_row(int i) {
    return int(threadIdx.x) % 32 / kAcross * kAcross + int(threadIdx.x) / 32 * kRows + i;
}
__device__ __forceinline__ int tile_column(int j) { return int(threadIdx.x) % kAcross + j * kAcross; }

// The row that a thread's team has in the softmax: a warp's are four apart, for the same reason.
__device__ __forceinline__ int team_row() { return int(threadIdx.x) % 32 / kTeam * kTeam + int(threadIdx.x) / 32; }

// to[r][c] = element (row0 + r, column0 + c), zero outside. Neighbouring threads take neighbouring columns.
template <class T, class A>
__device__ __forceinline__ void load_tile(A* to, const Matrix<T>& from, int64_t row0, int64_t column0) {
    for (int i = threadIdx.x; i < kTile * kTile; i += kThreads) {
        const int r = i / kTile, c = i % kTile;
        const int64_t row = row0 + r, column = column0 + c;
        const bool inside = row < from.rows && column < from.columns;
        to[r * kPitch + c] = inside ? convert<A>(from.data[row * from.row_stride + column * from.column_stride]) : A(0);
    }
}

// tile = a[a0 ..] b[b0 ..]^T, both 32 rows of the same columns.
template <class T, class A>
__device__ __forceinline__ void row_products(A (&tile)[kRows][kColumns], const Matrix<T>& a, int64_t a0,
                                             const Matrix<T>& b, int64_t b0, const Shared<A>& shared) {
#pragma unroll
    for (int i = 0; i < kRows; ++i)
#pragma unroll
        for (int j = 0; j < kColumns; ++j) tile[i][j] = 0;
    for (int64_t c = 0; c < a.columns; c += kTile) {
        __syncthreads();  // the operands before are done with
        load_tile(shared.left, a, a0, c);
        load_tile(shared.right, b, b0, c);
        __syncthreads();
#pragma unroll 8
        for (int e = 0; e < kTile; ++e) {
            A x[kRows], y[kColumns];
#pragma unroll
            for (int i = 0; i < kRows; ++i) x[i] = shared.left[tile_row(i) * kPitch + e];
#pragma unroll
            for (int j = 0; j < kColumns; ++j) y[j] = shared.right[tile_column(j) * kPitch + e];
#pragma unroll
            for (int i = 0; i < kRows; ++i)
#pragma unroll
                for (int j = 0; j < kColumns; ++j) tile[i][j] += x[i] * y[j];
        }
    }
}

// results (kTile, results_pitch(b.columns)) = factor[r] * results + w b[b0 ..], w (32, 32) in shared memory or, where
// kTransposed, its transpose; no factor: 1.
template <bool kTransposed, class T, class A>
__device__ __forceinline__ void
add_products(A* results, const A* factor, const A* w, const Matrix<T>& b, int64_t b0, const Shared<A>& shared) {
    const int64_t pitch = results_pitch(b.columns);
    for (int64_t c = 0; c < b.columns; c += kTile) {
        __syncthreads();  // the operand before is done with; w and factor are written
        load_tile(shared.right, b, b0, c);
        __syncthreads();
        A sums[kRows][kColumns] = {};
#pragma unroll 8
        for (int e = 0; e < kTile; ++e) {
            A x[kRows], y[kColumns];
#pragma unroll
            for (int i = 0; i < kRows; ++i)
                x[i] = kTransposed ? w[e * kPitch + tile_row(i)] : w[tile_row(i) * kPitch + e];
#pragma unroll
            for (int j = 0; j < kColumns; ++j) y[j] = shared.right[e * kPitch + tile_column(j)];
#pragma unroll
            for (int i = 0; i < kRows; ++i)
#pragma unroll
                for (int j = 0; j < kColumns; ++j) sums[i][j] += x[i] * y[j];
        }
#pragma unroll
        for (int i = 0; i < kRows; ++i)
#pragma unroll
            for (int j = 0; j < kColumns; ++j)
                if (c + tile_column(j) < b.columns) {
                    A& result = results[tile_row(i) * pitch + c + tile_column(j)];
                    result = (factor ? factor[tile_row(i)] * result : result) + sums[i][j];
                }
    }
}

template <class A>
__device__ __forceinline__ void clear(A* results, int64_t pitch) {
    for (int64_t i = threadIdx.x; i < kTile * pitch; i += kThreads) results[i] = 0;
}

// results (kTile, results_pitch(matrix.columns)) times `scale` or, where given, over divisor[r], as rows row0 .. of one
// head's matrix.
template <class T, class A>
__device__ __forceinline__ void
store_results(const Matrix<T>& matrix, int64_t row0, const A* results, A scale, const A* divisor) {
    const int64_t columns = matrix.columns, pitch = results_pitch(columns);
    T* const to = const_cast<T*>(matrix.data);
    for (int64_t i = threadIdx.x; i < kTile * columns; i += kThreads) {
        const int64_t r = i / columns, c = i - r * columns;
        if (row0 + r >= matrix.rows) continue;
        // Nothing was attended to: a sum of 0.
        const A result = results[r * pitch + c];
        const A value = divisor ? (divisor[r] == 0 ? A(0) : result / divisor[r]) : result * scale;
        to[(row0 + r) * matrix.row_stride + c * matrix.column_stride] = convert<T>(value);
    }
}

// What dropout multiplies probability (row, column) by.
template <class A>
__device__ __forceinline__ A keep(const AttentionProblem& p, int64_t batch, int64_t head, int64_t row, int64_t column) {
    if (p.threshold == 0) return 1;
    const uint64_t index = uint64_t(((batch * p.heads + head) * p.queries + row) * p.keys + column);
    return philox_word(p.state[0], index, p.state[1] + p.offset) >> 8 >= p.threshold ? A(p.keep_scale) : A(0);
}

// The t-th of all tiles of 32 rows: of which head of which batch, from which row.
struct Place { int64_t batch, head, row0; };

__device__ __forceinline__ Place place_of(int64_t t, int64_t tiles, int64_t heads) {
    const int64_t which = t / tiles;
    return {which / heads, which % heads, (t - which * tiles) * kTile};
}

__host__ __device__ __forceinline__ int64_t tiles_of(int64_t rows) { return (rows + kTile - 1) / kTile; }

template <class T>
__global__ void __launch_bounds__(kThreads) attention_kernel(const __grid_constant__ AttentionForward a) {
    using A = accumulator_t<T>;
    GPU_SHARED(memory);
    const Shared<A> shared(memory);
    const AttentionProblem& p = a.problem;
    const int64_t tiles = tiles_of(p.queries), group = p.heads / p.key_heads;
    const int row = team_row(), lane = int(threadIdx.x) % kTeam;  // in the softmax
    for (int64_t t = blockIdx.x; t < tiles * p.heads * p.batch; t += gridDim.x) {
        const auto [batch, head, row0] = place_of(t, tiles, p.heads);
        const Sequence sequence = sequence_of(p, batch);
        if (row0 >= sequence.queries) continue;
        const auto q = query_rows<T>(p.q, p.q_strides, sequence, head, p.d);
        const auto k = key_rows<T>(p.k, p.k_strides, sequence, head / group, p.d);
        const auto v = key_rows<T>(p.v, p.v_strides, sequence, head / group, p.dv);
        __syncthreads();  // the results before are stored
        clear(shared.results, results_pitch(p.dv));
        A highest = -kInfinity<A>, total = 0;  // of this thread's row, the same in its whole team
        const int64_t end = sequence.key_end(min(row0 + kTile, sequence.queries) - 1);
        for (int64_t column0 = sequence.key_begin(row0) / kTile * kTile; column0 < end; column0 += kTile) {
            A tile[kRows][kColumns];
            row_products(tile, q, row0, k, column0, shared);
#pragma unroll
            for (int i = 0; i < kRows; ++i)
#pragma unroll
                for (int j = 0; j < kColumns; ++j) {
                    A slope;
                    shared.p[tile_row(i) * kPitch + tile_column(j)] =
                        score<T>(p, sequence, head, row0 + tile_row(i), column0 + tile_column(j), tile[i][j], slope);
                }
            __syncthreads();
            // Each row: the new maximum, the probabilities above it, what the sums so far are multiplied by.
            A high = highest;
            for (int j = lane; j < kTile; j += kTeam) {
                const A s = shared.p[row * kPitch + j];
                high = s > high ? s : high;  // passes over NaN
            }
            for (int with = kTeam / 2; with > 0; with /= 2) {
                const A other = exchange(high, with);
                high = other > high ? other : high;
            }
            A sum = 0;
            for (int j = lane; j < kTile; j += kTeam) {
                const A s = shared.p[row * kPitch + j];
                const A e = s == -kInfinity<A> ? A(0) : exponential(s - high);
                sum += e;
                shared.p[row * kPitch + j] = e * keep<A>(p, batch, head, row0 + row, column0 + j);
            }
            const A factor = rescale(highest, high);
            highest = high, total = factor * total + warp_reduce(sum, kTeam, Add());
            if (lane == 0) shared.factor[row] = factor;
            add_products<false>(shared.results, shared.factor, shared.p, v, column0, shared);
        }
        if (lane == 0) shared.max[row] = highest, shared.sum[row] = total;
        __syncthreads();
        store_results(query_rows<T>(a.out, a.out_strides, sequence, head, p.dv), row0, shared.results, A(1),
                      shared.sum);
        if (threadIdx.x < kTile && row0 + threadIdx.x < sequence.queries)
            static_cast<A*>(a.lse)[statistic(p, sequence, head, row0 + threadIdx.x)] =
                shared.sum[threadIdx.x] == 0 ? -kInfinity<A>
                                             : shared.max[threadIdx.x] + logarithm(shared.sum[threadIdx.x]);
    }
}

// delta[row] = sum of grad * out: a warp a row.
template <class T>
__global__ void __launch_bounds__(kThreads) attention_delta_kernel(const __grid_constant__ AttentionBackward a) {
    using A = accumulator_t<T>;
    const AttentionProblem& p = a.problem;
    // Of packed sequences all tokens, as one.
    const int64_t queries = p.features.q_starts ? p.features.query_tokens : p.queries;
    const int64_t rows = (p.features.q_starts ? 1 : p.batch) * p.heads * queries, warps = kThreads / 32;
    for (int64_t row = blockIdx.x * warps + threadIdx.x / 32; row < rows; row += gridDim.x * warps) {
        const int64_t which = row / queries, in_head = row - which * queries;
        const auto grad = head_of<T>(a.grad, a.grad_strides, which / p.heads, which % p.heads, in_head, 1, p.dv);
        const auto out = head_of<T>(a.out, a.out_strides, which / p.heads, which % p.heads, in_head, 1, p.dv);
        const T* const g = grad.data;
        const T* const o = out.data;
        A sum = 0;
        for (int64_t c = threadIdx.x % 32; c < p.dv; c += 32)
            sum += convert<A>(g[c * grad.column_stride]) * convert<A>(o[c * out.column_stride]);
        sum = warp_reduce(sum, 32, Add());
        if (threadIdx.x % 32 == 0) static_cast<A*>(a.delta)[row] = sum;
    }
}

// shared.p = the probabilities of 32 queries and keys after dropout, shared.ds = the gradients of scale * q k^T. Written
// by the threads of row_products, read after the next barrier.
template <class T, class A>
__device__ __forceinline__ void score_gradients(const AttentionBackward& a, const Sequence& sequence, int64_t head,
                                                int64_t row0, int64_t column0, const Shared<A>& shared, bool write) {
    const AttentionProblem& p = a.problem;
    const int64_t key_head = head / (p.heads / p.key_heads);
    const auto q = query_rows<T>(p.q, p.q_strides, sequence, head, p.d);
    const auto k = key_rows<T>(p.k, p.k_strides, sequence, key_head, p.d);
    const auto v = key_rows<T>(p.v, p.v_strides, sequence, key_head, p.dv);
    const auto grad = query_rows<T>(a.grad, a.grad_strides, sequence, head, p.dv);
    A products[kRows][kColumns], dp[kRows][kColumns];
    row_products(products, q, row0, k, column0, shared);
    row_products(dp, grad, row0, v, column0, shared);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
        const int64_t row = row0 + tile_row(i), at = statistic(p, sequence, head, row);
        const A lse = row < sequence.queries ? static_cast<const A*>(a.lse)[at] : -kInfinity<A>;
        const A delta = row < sequence.queries ? static_cast<const A*>(a.delta)[at] : A(0);
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
            const int64_t column = column0 + tile_column(j);
            A slope;
            const A s = score<T>(p, sequence, head, row, column, products[i][j], slope);
            const A probability = s == -kInfinity<A> || lse == -kInfinity<A> ? A(0) : exponential(s - lse);
            const A kept = keep<A>(p, sequence.batch, head, row, column);
            const A ds = probability * (dp[i][j] * kept - delta);
            shared.p[tile_row(i) * kPitch + tile_column(j)] = probability * kept;
            shared.ds[tile_row(i) * kPitch + tile_column(j)] = ds * slope;
            if (write && a.ds && row < sequence.queries && column < sequence.keys)
                static_cast<A*>(a.ds)[at * p.keys + column] = ds;
        }
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1) attention_dq_kernel(const __grid_constant__ AttentionBackward a) {
    using A = accumulator_t<T>;
    GPU_SHARED(memory);
    const Shared<A> shared(memory);
    const AttentionProblem& p = a.problem;
    const int64_t tiles = tiles_of(p.queries), group = p.heads / p.key_heads;
    for (int64_t t = blockIdx.x; t < tiles * p.heads * p.batch; t += gridDim.x) {
        const auto [batch, head, row0] = place_of(t, tiles, p.heads);
        const Sequence sequence = sequence_of(p, batch);
        if (row0 >= sequence.queries) continue;
        const auto k = key_rows<T>(p.k, p.k_strides, sequence, head / group, p.d);
        __syncthreads();  // the results before are stored
        clear(shared.results, results_pitch(p.d));
        // Where gradients of scores are wanted, those that causality or a window leave out are written as well: as zeros.
        const int64_t begin = a.ds ? 0 : sequence.key_begin(row0) / kTile * kTile;
        const int64_t end = a.ds ? sequence.keys : sequence.key_end(min(row0 + kTile, sequence.queries) - 1);
        for (int64_t column0 = begin; column0 < end; column0 += kTile) {
            score_gradients<T>(a, sequence, head, row0, column0, shared, true);
            add_products<false>(shared.results, static_cast<const A*>(nullptr), shared.ds, k, column0, shared);
        }
        __syncthreads();
        store_results(query_rows<T>(a.dq, a.dq_strides, sequence, head, p.d), row0, shared.results, A(p.scale),
                      static_cast<const A*>(nullptr));
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1) attention_dkv_kernel(const __grid_constant__ AttentionBackward a) {
    using A = accumulator_t<T>;
    GPU_SHARED(memory);
    const Shared<A> shared(memory);
    const AttentionProblem& p = a.problem;
    const int64_t of_k_pitch = results_pitch(p.d), of_v_pitch = results_pitch(p.dv);
    A* const of_k = shared.results;             // (kTile, of_k_pitch)
    A* const of_v = of_k + kTile * of_k_pitch;  // (kTile, of_v_pitch)
    const int64_t tiles = tiles_of(p.keys), group = p.heads / p.key_heads;
    for (int64_t t = blockIdx.x; t < tiles * p.key_heads * p.batch; t += gridDim.x) {
        const auto [batch, key_head, column0] = place_of(t, tiles, p.key_heads);
        const Sequence sequence = sequence_of(p, batch);
        if (column0 >= sequence.keys) continue;
        __syncthreads();  // the results before are stored
        clear(shared.results, of_k_pitch + of_v_pitch);
        for (int64_t head = key_head * group; head < (key_head + 1) * group; ++head) {
            const auto q = query_rows<T>(p.q, p.q_strides, sequence, head, p.d);
            const auto grad = query_rows<T>(a.grad, a.grad_strides, sequence, head, p.dv);
            const int64_t end = sequence.query_end(column0 + kTile - 1);
            for (int64_t row0 = sequence.query_begin(column0) / kTile * kTile; row0 < end; row0 += kTile) {
                score_gradients<T>(a, sequence, head, row0, column0, shared, false);
                add_products<true>(of_v, static_cast<const A*>(nullptr), shared.p, grad, row0, shared);
                add_products<true>(of_k, static_cast<const A*>(nullptr), shared.ds, q, row0, shared);
            }
        }
        __syncthreads();
        store_results(key_rows<T>(a.dk, a.dk_strides, sequence, key_head, p.d), column0, of_k, A(p.scale),
                      static_cast<const A*>(nullptr));
        store_results(key_rows<T>(a.dv, a.dv_strides, sequence, key_head, p.dv), column0, of_v, A(1),
                      static_cast<const A*>(nullptr));
    }
}

unsigned blocks_for(int64_t wanted, const AttentionConfig& config) {
    return unsigned(std::min({wanted, int64_t(config.max_blocks), int64_t(1) << 30}));
}

// Whether TMA can bring all rows of all queries' or keys' heads, packed or not.
bool queries_by_tma(const AttentionProblem& p, const void* data, const AttentionStrides& s, int64_t columns) {
    const bool packed = p.features.q_starts;
    return attention_rows_by_tma(data, s, packed ? 1 : p.batch, p.heads, packed ? p.features.query_tokens : p.queries,
                                 columns);
}
bool keys_by_tma(const AttentionProblem& p, const void* data, const AttentionStrides& s, int64_t columns) {
    const bool packed = p.features.q_starts;
    return attention_rows_by_tma(data, s, packed ? 1 : p.batch, p.key_heads, packed ? p.features.key_tokens : p.keys,
                                 columns);
}

}  // namespace

void attention_check(const AttentionConfig& config, const AttentionProblem& p, DType dtype, bool backward,
                     const DeviceProperties& device) {
    const char* const function = backward ? "attention_backward" : "attention";
    const auto refuse = [&](const std::string& why) {
        throw std::invalid_argument(std::string(function) + ": " + config.to_string() + " " + why);
    };
    if (config.family == AttentionFamily::general)
        return check_attention_shared(function,
                                      attention_shared_bytes(p.d, p.dv, backward, dtype == DType::float64 ? 8 : 4));
    if (config.family == AttentionFamily::sm90) {
        if (!attention_sm90_has(dtype, p.d, p.dv)) refuse("serves float16 and bfloat16, head dimensions up to 256");
        if (!device.has_sm90a()) refuse("needs a Hopper GPU");
        if (config.stages < attention_sm90_min_stages(backward))
            refuse("needs at least " + std::to_string(attention_sm90_min_stages(backward)) + " stages");
        if (!queries_by_tma(p, p.q, p.q_strides, p.d) || !keys_by_tma(p, p.k, p.k_strides, p.d) ||
            !keys_by_tma(p, p.v, p.v_strides, p.dv))
            refuse("needs keys, and rows of neighbours that begin at multiples of 16 bytes");
    } else if (!attention_sm80_has(dtype, p.d, p.dv))
        refuse("serves float16 and bfloat16, head dimensions up to 256, and float32 up to 128");
    if (device.major < 8) refuse("needs a GPU of compute capability 8.0 or later");
    const int64_t most_heads = p.batch * std::max(p.heads, p.key_heads);
    if (most_heads * tiles_of(std::max(p.queries, p.keys)) > std::numeric_limits<int>::max())
        refuse("counts in 32 bits, this problem has more tiles");
    check_attention_shared(function, config.family == AttentionFamily::sm90
                                         ? attention_sm90_shared_bytes(p.d, p.dv, backward, config.stages)
                                         : attention_sm80_shared_bytes(p.d, p.dv, attention_sm80_item_bytes(dtype),
                                                                       backward, config.stages));
}

void attention(const AttentionForward& a, DType dtype, const AttentionConfig& config, cudaStream_t stream) {
    const AttentionProblem& p = a.problem;
    const int64_t tiles = p.batch * p.heads * tiles_of(p.queries);
    if (tiles == 0) return;
    attention_check(config, p, dtype, false, current_device());
    if (config.family == AttentionFamily::sm90) {
        // Results leave by TMA, too.
        if (!queries_by_tma(p, a.out, a.out_strides, p.dv))
            throw std::invalid_argument("attention: " + config.to_string() +
                                        " needs a head dimension of the values that "
                                        "is a multiple of 8");
        if (dtype == DType::float16) return attention_sm90_fp16(a, config, stream);
        return attention_sm90_bf16(a, config, stream);
    }
    if (config.family == AttentionFamily::sm80) {
        if (dtype == DType::float32) return attention_sm80_fp32(a, config, stream);
        if (dtype == DType::float16) return attention_sm80_fp16(a, config, stream);
        return attention_sm80_bf16(a, config, stream);
    }
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const int64_t shared = attention_shared_bytes(p.d, p.dv, false, sizeof(accumulator_t<T>));
        gpu::launch<attention_kernel<T>>(dim3(blocks_for(tiles, config)), dim3(kThreads), unsigned(shared), stream, a);
    });
}

void attention_backward(const AttentionBackward& a, DType dtype, const AttentionConfig& config, cudaStream_t stream) {
    const AttentionProblem& p = a.problem;
    const int64_t rows = p.heads * (p.features.q_starts ? p.features.query_tokens : p.batch * p.queries);
    const int64_t query_tiles = p.batch * p.heads * tiles_of(p.queries);
    const int64_t key_tiles = p.batch * p.key_heads * tiles_of(p.keys);
    attention_check(config, p, dtype, true, current_device());
    if (config.family == AttentionFamily::sm90 && a.ds && p.features.softcap != 0)
        throw std::invalid_argument("attention_backward: " + config.to_string() +
                                    " serves no gradient of a mask together with a cap on scores");
    if (config.family == AttentionFamily::sm90 &&
        !(queries_by_tma(p, a.grad, a.grad_strides, p.dv) && queries_by_tma(p, a.dq, a.dq_strides, p.d) &&
          keys_by_tma(p, a.dk, a.dk_strides, p.d) && keys_by_tma(p, a.dv, a.dv_strides, p.dv) &&
          reinterpret_cast<uintptr_t>(a.lse) % 16 == 0 && reinterpret_cast<uintptr_t>(a.delta) % 16 == 0))
        throw std::invalid_argument("attention_backward: " + config.to_string() +
                                    " needs rows, of gradients too, that begin at multiples of 16 bytes");
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        if (rows)
            gpu::launch<attention_delta_kernel<T>>(dim3(blocks_for((rows + 3) / 4, config)), dim3(kThreads), 0, stream,
                                                   a);
        if (config.family != AttentionFamily::general) return;
        const int64_t shared = attention_shared_bytes(p.d, p.dv, true, sizeof(accumulator_t<T>));
        if (query_tiles)
            gpu::launch<attention_dq_kernel<T>>(dim3(blocks_for(query_tiles, config)), dim3(kThreads), unsigned(shared),
                                                stream, a);
        if (key_tiles)
            gpu::launch<attention_dkv_kernel<T>>(dim3(blocks_for(key_tiles, config)), dim3(kThreads), unsigned(shared),
                                                 stream, a);
    });
    if (config.family == AttentionFamily::general) return;
    if (config.family == AttentionFamily::sm90) {
        if (dtype == DType::float16) return attention_backward_sm90_fp16(a, config, stream);
        return attention_backward_sm90_bf16(a, config, stream);
    }
    if (dtype == DType::float32) return attention_backward_sm80_fp32(a, config, stream);
    if (dtype == DType::float16) return attention_backward_sm80_fp16(a, config, stream);
    attention_backward_sm80_bf16(a, config, stream);
}
