// Attention to a cache of keys and values: a block has up to 8 query rows that share a key head and walks over its part
// of the keys, 32 at a time. New keys are read where the caller has them, so that no block waits for the one that puts
// them into the cache.
#include "../device/reduce.cuh"
#include "attention_cache.h"
#include "attention_common.cuh"

namespace {

constexpr int kRows = kAttentionCacheRows, kThreads = kAttentionThreads, kWarps = kThreads / 32, kKeys = 32;
constexpr int kOwn = kRows / kWarps;  // rows of the softmax a warp has

// The block's shared memory.
template <class A>
struct Shared {
    A* q;                   // (kRows, d)
    A* p;                   // (kRows, kKeys): scores, then probabilities
    A *max, *sum, *factor;  // (kRows,)
    A* results;             // (kRows, dv)

    __device__ Shared(unsigned char* base, int64_t d) {
        q = reinterpret_cast<A*>(base), p = q + kRows * d, max = p + kRows * kKeys, sum = max + kRows;
        factor = sum + kRows, results = factor + kRows;
    }
};

int64_t shared_elements(int64_t d, int64_t dv) { return kRows * (d + kKeys + 3 + dv); }

// Tokens of the cache and, from `held` on, of what is appended.
template <class T>
struct Tokens {
    Matrix<T> cache, fresh;
    int64_t held;

    __device__ __forceinline__ const T* row(int64_t i) const {
        return i < held ? cache.data + i * cache.row_stride : fresh.data + (i - held) * fresh.row_stride;
    }
    __device__ __forceinline__ int64_t step(int64_t i) const {
        return i < held ? cache.column_stride : fresh.column_stride;
    }
    // Puts the fresh tokens into the cache, by the whole block.
    __device__ __forceinline__ void append() const {
        for (int64_t i = threadIdx.x; i < fresh.rows * fresh.columns; i += kThreads) {
            const int64_t r = i / fresh.columns, c = i - r * fresh.columns;
            const_cast<T*>(cache.data)[(held + r) * cache.row_stride + c * cache.column_stride] =
                fresh.data[r * fresh.row_stride + c * fresh.column_stride];
        }
    }
};

// Row r of a key head: which query of which head.
struct Row { int64_t head, query; };

template <class T>
__global__ void __launch_bounds__(kThreads, 2)
attention_with_kvcache_kernel(const __grid_constant__ AttentionCache a, int splits) {
    using A = accumulator_t<T>;
    GPU_SHARED(memory);
    const AttentionProblem& p = a.problem;
    const Shared<A> shared(memory, p.d);
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    const int64_t group = p.heads / p.key_heads, rows = group * p.queries, chunks = (rows + kRows - 1) / kRows;
    for (int64_t t = blockIdx.x; t < p.batch * p.key_heads * chunks * splits; t += gridDim.x) {
        const int64_t split = t % splits, chunk = t / splits % chunks, which = t / splits / chunks;
        const int64_t batch = which / p.key_heads, key_head = which % p.key_heads;
        int64_t held = a.lengths[batch], added = a.added;
        if (held < 0 || held + added > p.keys) {
            if (threadIdx.x == 0) atomicExch(a.fault, 1);
            held = added = 0;
        }
        const Sequence sequence = reach_of(p, Sequence{batch, 0, p.queries, 0, held + added, 0, 0, 0});
        const Tokens<T> k{head_of<T>(p.k, p.k_strides, batch, key_head, 0, held, p.d),
                          head_of<T>(a.k, a.k_strides, batch, key_head, 0, added, p.d), held};
        const Tokens<T> v{head_of<T>(p.v, p.v_strides, batch, key_head, 0, held, p.dv),
                          head_of<T>(a.v, a.v_strides, batch, key_head, 0, added, p.dv), held};
        if (chunk == 0 && split == 0) k.append(), v.append();
        const auto row_of = [&](int64_t r) {
            const int64_t row = chunk * kRows + r;
            return Row{key_head * group + row / p.queries, row % p.queries};
        };
        const int here = int(min(int64_t(kRows), rows - chunk * kRows));

        __syncthreads();  // the results before are stored
        for (int64_t i = threadIdx.x; i < here * p.d; i += kThreads) {
            const int64_t r = i / p.d, c = i - r * p.d;
            const auto q = query_rows<T>(p.q, p.q_strides, sequence, row_of(r).head, p.d);
            shared.q[i] = convert<A>(q.data[row_of(r).query * q.row_stride + c * q.column_stride]);
        }
        for (int64_t i = threadIdx.x; i < kRows * p.dv; i += kThreads) shared.results[i] = 0;
        A highest[kOwn], total[kOwn];  // of this warp's rows, the same in all lanes
#pragma unroll
        for (int n = 0; n < kOwn; ++n) highest[n] = -kInfinity<A>, total[n] = 0;

        // This split's part of the keys that any query sees, in whole tiles.
        const int64_t first = sequence.key_begin(0) / kKeys, last = sequence.key_end(p.queries - 1);
        const int64_t tiles = max(int64_t(0), (last + kKeys - 1) / kKeys - first);
        const int64_t share = (tiles + splits - 1) / splits;
        const int64_t begin = (first + split * share) * kKeys, end = min(last, begin + share * kKeys);
        for (int64_t column0 = begin; column0 < end; column0 += kKeys) {
            const int there = int(min(int64_t(kKeys), end - column0));
            __syncthreads();  // q is there; the probabilities before are done with
            for (int j = warp; j < kKeys; j += kWarps) {
                A sums[kRows] = {};
                if (j < there) {
                    const T* const key = k.row(column0 + j);
                    const int64_t step = k.step(column0 + j);
                    for (int64_t c = lane; c < p.d; c += 32) {
                        const A x = convert<A>(key[c * step]);
#pragma unroll
                        for (int r = 0; r < kRows; ++r)
                            if (r < here) sums[r] += shared.q[r * p.d + c] * x;
                    }
                }
#pragma unroll
                for (int r = 0; r < kRows; ++r) {
                    if (r >= here) break;
                    A slope;
                    const A product = warp_reduce(sums[r], 32, Add());
                    const auto [head, query] = row_of(r);
                    const A s =
                        j < there ? score<T>(p, sequence, head, query, column0 + j, product, slope) : -kInfinity<A>;
                    if (lane == 0) shared.p[r * kKeys + j] = s;
                }
            }
            __syncthreads();
#pragma unroll
            for (int n = 0; n < kOwn; ++n) {
                const int r = warp + n * kWarps;
                if (r >= here) break;
                const A s = shared.p[r * kKeys + lane];
                A high = s > highest[n] ? s : highest[n];  // passes over NaN
                for (int with = 16; with > 0; with /= 2) {
                    const A other = exchange(high, with);
                    high = other > high ? other : high;
                }
                const A e = s == -kInfinity<A> ? A(0) : exponential(s - high);
                const A factor = rescale(highest[n], high);
                shared.p[r * kKeys + lane] = e;
                highest[n] = high, total[n] = factor * total[n] + warp_reduce(e, 32, Add());
                if (lane == 0) shared.factor[r] = factor;
            }
            __syncthreads();
            for (int64_t c = threadIdx.x; c < p.dv; c += kThreads) {
                A sums[kRows] = {};
                for (int j = 0; j < there; ++j) {
                    const A x = convert<A>(v.row(column0 + j)[c * v.step(column0 + j)]);
#pragma unroll
                    for (int r = 0; r < kRows; ++r)
                        if (r < here) sums[r] += shared.p[r * kKeys + j] * x;
                }
#pragma unroll
                for (int r = 0; r < kRows; ++r)
                    if (r < here)
                        shared.results[r * p.dv + c] = shared.factor[r] * shared.results[r * p.dv + c] + sums[r];
            }
        }
#pragma unroll
        for (int n = 0; n < kOwn; ++n)
            if (lane == 0) shared.max[warp + n * kWarps] = highest[n], shared.sum[warp + n * kWarps] = total[n];
        __syncthreads();
        for (int64_t i = threadIdx.x; i < here * p.dv; i += kThreads) {
            const int64_t r = i / p.dv, c = i - r * p.dv;
            const auto [head, query] = row_of(r);
            const A sum = shared.sum[r];
            if (splits > 1) {
                const int64_t at = ((split * p.batch + batch) * p.heads + head) * p.queries + query;
                static_cast<A*>(a.part)[at * p.dv + c] = shared.results[i];
            } else {
                const auto out = query_rows<T>(a.out, a.out_strides, sequence, head, p.dv);
                const_cast<T*>(out.data)[query * out.row_stride + c * out.column_stride] =
                    convert<T>(sum == 0 ? A(0) : shared.results[i] / sum);
            }
        }
        if (threadIdx.x < here) {
            const auto [head, query] = row_of(threadIdx.x);
            const A high = shared.max[threadIdx.x], sum = shared.sum[threadIdx.x];
            if (splits > 1) {
                const int64_t at = ((split * p.batch + batch) * p.heads + head) * p.queries + query;
                static_cast<A*>(a.statistics)[2 * at] = high, static_cast<A*>(a.statistics)[2 * at + 1] = sum;
            } else {
                static_cast<A*>(a.lse)[statistic(p, sequence, head, query)] =
                    sum == 0 ? -kInfinity<A> : high + logarithm(sum);
            }
        }
    }
}

// A warp a row joins the splits, the first one first.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
attention_join_kernel(const __grid_constant__ AttentionCache a, int splits) {
    using A = accumulator_t<T>;
    const AttentionProblem& p = a.problem;
    const A* const statistics = static_cast<const A*>(a.statistics);
    const int lane = int(threadIdx.x) % 32;
    const int64_t rows = p.batch * p.heads * p.queries;
    for (int64_t row = int64_t(blockIdx.x) * kWarps + threadIdx.x / 32; row < rows;
         row += int64_t(gridDim.x) * kWarps) {
        A high = -kInfinity<A>, sum = 0;
        for (int i = 0; i < splits; ++i) {
            const A other = statistics[2 * (i * rows + row)];
            high = other > high ? other : high;
        }
        for (int i = 0; i < splits; ++i) {
            const int64_t at = 2 * (i * rows + row);
            sum += rescale(statistics[at], high) * statistics[at + 1];
        }
        const int64_t which = row / p.queries;
        const auto out = head_of<T>(a.out, a.out_strides, which / p.heads, which % p.heads, row % p.queries, 1, p.dv);
        for (int64_t c = lane; c < p.dv; c += 32) {
            A value = 0;
            for (int i = 0; i < splits; ++i)
                value += rescale(statistics[2 * (i * rows + row)], high) *
                         static_cast<const A*>(a.part)[(i * rows + row) * p.dv + c];
            const_cast<T*>(out.data)[c * out.column_stride] = convert<T>(sum == 0 ? A(0) : value / sum);
        }
        if (lane == 0) static_cast<A*>(a.lse)[row] = sum == 0 ? -kInfinity<A> : high + logarithm(sum);
    }
}

}  // namespace

void attention_with_kvcache(const AttentionCache& a, DType dtype, const AttentionCacheConfig& config,
                            cudaStream_t stream) {
    check(config);
    const AttentionProblem& p = a.problem;
    const int64_t rows = p.batch * p.heads * p.queries;
    if (rows == 0) return;
    constexpr int64_t kMost = int64_t(1) << 30;
    const int64_t chunks = (p.heads / p.key_heads * p.queries + kRows - 1) / kRows;
    const int64_t blocks = p.batch * p.key_heads * chunks * config.splits;
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const int64_t shared = shared_elements(p.d, p.dv) * int64_t(sizeof(accumulator_t<T>));
        check_attention_shared("attention_with_kvcache", shared);
        gpu::launch<attention_with_kvcache_kernel<T>>(dim3(unsigned(std::min(blocks, kMost))), dim3(kThreads),
                                                      unsigned(shared), stream, a, config.splits);
        if (config.splits > 1)
            gpu::launch<attention_join_kernel<T>>(dim3(unsigned(std::min((rows + kWarps - 1) / kWarps, kMost))),
                                                  dim3(kThreads), 0, stream, a, config.splits);
    });
}
