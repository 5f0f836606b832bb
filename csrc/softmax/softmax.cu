// Two sweeps over each row: the first keeps the running maximum and sum (online), the second, which finds the row in
// L1 or L2, writes. Rows lie along the axis (a team of lanes, or a block, shares one) or, where the axis is not the last
// one in memory, side by side (each lane has a column, so that a warp reads neighbours).
#include "../device/convert.cuh"
#include "../device/reduce.cuh"
#include "../device/vector.cuh"
#include "softmax.h"

namespace {

constexpr int kMaxThreads = kSoftmaxThreads;  // with a minimum of one block: ptxas would spill for a second one
template <class T> constexpr int kElements = 16 / sizeof(T);

// This thread's part in a row: elements first, first + step, ... of it.
struct Part { int lane, team; };

// Calls f(first, chunk) for this thread's elements of [0, length): chunk[i] is element first + i.
// f sees arrays of kElements<T> elements where `vector`, of one element otherwise and in the tail.
template <class T, class F>
__device__ __forceinline__ void sweep(int64_t length, bool vector, Part part, F f) {
    constexpr int kCount = kElements<T>;
    int64_t done = 0;
    if (vector) {
        const int64_t packs = length / kCount;
        for (int64_t i = part.lane; i < packs; i += part.team) f.template operator()<kCount>(i * kCount);
        done = packs * kCount;
    }
    for (int64_t i = done + part.lane; i < length; i += part.team) f.template operator()<1>(i);
}

template <int N, class T, class Acc>
__device__ __forceinline__ void load(Acc (&to)[N], const T* row, int64_t first, int64_t stride) {
    if constexpr (N == 1) {
        to[0] = convert<Acc>(row[first * stride]);
    } else {
        const auto pack = load_vector<N>(row + first);
#pragma unroll
        for (int i = 0; i < N; ++i) to[i] = convert<Acc>(pack[i]);
    }
}

template <int N, class T, class Acc>
__device__ __forceinline__ void store(T* row, int64_t first, int64_t stride, const Acc (&from)[N]) {
    if constexpr (N == 1) {
        row[first * stride] = convert<T>(from[0]);
    } else {
        Vector<T, N> pack;
#pragma unroll
        for (int i = 0; i < N; ++i) pack[i] = convert<T>(from[i]);
        store_vector(row + first, pack);
    }
}

// What the exponentials are divided by. PyTorch's sum holds exp(inf - inf) when the maximum is infinite.
template <class A>
__device__ __forceinline__ A denominator(MaxSum<A> pair) {
    return pair.max == kInfinity<A> || pair.max == -kInfinity<A> ? kNaN<A> : pair.sum;
}

__device__ __forceinline__ float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double multiply_add(double a, double b, double c) { return fma(a, b, c); }

// 1 / sum, for sum >= 1 (or NaN) that float can hold: a fast approximation, for quotient() to refine. The operator has a
// slow path for other ranges, whose calls made these kernels spill.
__device__ __forceinline__ float reciprocal(float sum) { return __fdividef(1.0f, sum); }
__device__ __forceinline__ double reciprocal(double sum) {
    double inverse = __fdividef(1.0f, float(sum));
    inverse = fma(fma(-inverse, sum, 1.0), inverse, inverse);  // Newton: 22 good bits become 44
    return fma(fma(-inverse, sum, 1.0), inverse, inverse);
}

// x / sum to the last place from inverse, near 1 / sum; for x in [0, 1].
template <class A>
__device__ __forceinline__ A quotient(A x, A sum, A inverse) {
    const A q = x * inverse;
    return multiply_add(multiply_add(-q, sum, x), inverse, q);
}

template <bool kColumns, class T, class Op>
__device__ __forceinline__ T reduce(T value, int team, unsigned char* shared, Op op) {
    T* partial = reinterpret_cast<T*>(shared);
    if constexpr (kColumns) return column_reduce(value, team, int(blockDim.x) / team, partial, op);
    else return team_reduce(value, team, partial, op);
}

struct Row { int64_t outer, inner; };

template <bool kColumns>
__device__ __forceinline__ Row row_of(int64_t row, int64_t inner) {
    if constexpr (kColumns) return {row / inner, row % inner};
    else return {row, 0};
}

template <class T>
__device__ __forceinline__ T* at(T* base, const SoftmaxStrides& strides, Row row) {
    return base + row.outer * strides.outer + row.inner * strides.inner;
}

template <bool kColumns>
__device__ __forceinline__ int row_in_block(int team) {
    return kColumns ? int(threadIdx.x) % (int(blockDim.x) / team) : int(threadIdx.x) / team;
}

template <bool kColumns>
__device__ __forceinline__ Part part_of(int team) {
    return {kColumns ? int(threadIdx.x) / (int(blockDim.x) / team) : int(threadIdx.x) % team, team};
}

// out, x: (outer, length, inner) as layout says.
template <class T, bool kColumns>
__global__ void __launch_bounds__(kMaxThreads, 1)
softmax_kernel(T* out, const T* x, const __grid_constant__ SoftmaxLayout layout, int team, bool log, bool vector) {
    using Acc = accumulator_t<T>;
    GPU_SHARED(shared);
    const Part part = part_of<kColumns>(team);
    const int64_t rows = layout.outer * layout.inner, rows_at_once = blockDim.x / team;
    // The loop is the same for all threads of the block, whose teams must all come to the reductions.
    for (int64_t base = blockIdx.x * rows_at_once; base < rows; base += gridDim.x * rows_at_once) {
        const int64_t row = base + row_in_block<kColumns>(team);
        const int64_t length = row < rows ? layout.length : 0;
        const Row where = row_of<kColumns>(row, layout.inner);
        const T* from = at(x, layout.x, where);
        auto pair = MaxSum<Acc>::identity();
        sweep<T>(length, vector, part, [&]<int N>(int64_t first) {
            Acc values[N];
            load(values, from, first, layout.x.axis);
            include(pair, values);
        });
        pair = reduce<kColumns>(pair, team, shared, CombineMaxSum());
        const Acc max = pair.max, sum = denominator(pair), log_sum = logarithm(sum), inverse = reciprocal(sum);
        T* to = at(out, layout.out, where);
        sweep<T>(length, vector, part, [&]<int N>(int64_t first) {
            Acc values[N];
            load(values, from, first, layout.x.axis);
#pragma unroll
            for (int i = 0; i < N; ++i) {
                const Acc shifted = values[i] - max;
                values[i] = log ? shifted - log_sum : quotient(exponential(shifted), sum, inverse);
            }
            store(to, first, layout.out.axis, values);
        });
    }
}

// out, x, y: (outer, length, inner) as layout says.
template <class T, bool kColumns>
__global__ void __launch_bounds__(kMaxThreads, 1)
softmax_backward_kernel(T* out, const T* x, const T* y, const __grid_constant__ SoftmaxLayout layout, int team,
                        bool log, bool vector) {
    using Acc = accumulator_t<T>;
    GPU_SHARED(shared);
    const Part part = part_of<kColumns>(team);
    const int64_t rows = layout.outer * layout.inner, rows_at_once = blockDim.x / team;
    for (int64_t base = blockIdx.x * rows_at_once; base < rows; base += gridDim.x * rows_at_once) {
        const int64_t row = base + row_in_block<kColumns>(team);
        const int64_t length = row < rows ? layout.length : 0;
        const Row where = row_of<kColumns>(row, layout.inner);
        const T *gradient = at(x, layout.x, where), *result = at(y, layout.y, where);
        Acc sum = 0;
        sweep<T>(length, vector, part, [&]<int N>(int64_t first) {
            Acc g[N], r[N];
            load(g, gradient, first, layout.x.axis);
            if (!log) load(r, result, first, layout.y.axis);
#pragma unroll
            for (int i = 0; i < N; ++i) sum += log ? g[i] : g[i] * r[i];
        });
        sum = reduce<kColumns>(sum, team, shared, Add());
        T* to = at(out, layout.out, where);
        sweep<T>(length, vector, part, [&]<int N>(int64_t first) {
            Acc g[N], r[N];
            load(g, gradient, first, layout.x.axis);
            load(r, result, first, layout.y.axis);
#pragma unroll
            for (int i = 0; i < N; ++i) g[i] = log ? g[i] - exponential(r[i]) * sum : r[i] * (g[i] - sum);
            store(to, first, layout.out.axis, g);
        });
    }
}

__device__ __forceinline__ int64_t target_at(const void* target, DType dtype, int64_t row) {
    if (dtype == DType::int64) return static_cast<const int64_t*>(target)[row];
    if (dtype == DType::int32) return static_cast<const int32_t*>(target)[row];
    return static_cast<const uint8_t*>(target)[row];
}

template <class T>
__global__ void __launch_bounds__(kMaxThreads, 1)
cross_entropy_kernel(const __grid_constant__ CrossEntropy p, DType target_dtype, int team, bool vector,
                     bool vector_gradient) {
    using Acc = accumulator_t<T>;
    GPU_SHARED(shared);
    const Part part = part_of<false>(team);
    const auto* weight = static_cast<const Acc*>(p.weight);  // (classes,)
    const Acc smooth = Acc(p.smoothing / double(p.classes)), sharp = Acc(1 - p.smoothing);
    const int64_t rows_at_once = blockDim.x / team;
    for (int64_t base = blockIdx.x * rows_at_once; base < p.rows; base += gridDim.x * rows_at_once) {
        const int64_t row = base + row_in_block<false>(team);
        const bool present = row < p.rows;
        const int64_t length = present ? p.classes : 0;
        const T* from = static_cast<const T*>(p.logits) + row * p.row_stride;
        const int64_t target = present ? target_at(p.target, target_dtype, row) : 0;
        const bool ignored = present && target == p.ignore_index;
        const bool bad = present && !ignored && (target < 0 || target >= p.classes);
        const bool counts = present && !ignored && !bad;
        auto pair = MaxSum<Acc>::identity();
        sweep<T>(length, vector, part, [&]<int N>(int64_t first) {
            Acc values[N];
            load(values, from, first, p.class_stride);
            include(pair, values);
        });
        pair = reduce<false>(pair, team, shared, CombineMaxSum());
        const Acc max = pair.max, sum = denominator(pair), log_sum = logarithm(sum), inverse = reciprocal(sum);
        const Acc target_weight = !counts ? Acc(0) : weight ? weight[target] : Acc(1);

        Acc weighted = 0, total = 0;  // sums of weight * logp and of weight
        if (smooth != 0) {            // the same for all threads
            sweep<T>(length, vector, part, [&]<int N>(int64_t first) {
                Acc values[N];
                load(values, from, first, p.class_stride);
#pragma unroll
                for (int i = 0; i < N; ++i) {
                    const Acc w = weight ? weight[first + i] : Acc(1);
                    weighted += w * ((values[i] - max) - log_sum);
                    total += w;
                }
            });
            weighted = reduce<false>(weighted, team, shared, Add());
            total = reduce<false>(total, team, shared, Add());
        }
        if (present && part.lane == 0) {
            Acc loss = 0;
            if (counts) {
                const Acc log_p = (convert<Acc>(from[target * p.class_stride]) - max) - log_sum;
                loss = sharp * (-target_weight * log_p);
                if (smooth != 0) loss -= smooth * weighted;
            }
            static_cast<Acc*>(p.loss)[row] = loss;
            if (bad) atomicExch(p.fault, 1);
        }
        if (!p.gradient) continue;
        // d loss / d x[c] = p[c] * (sum of all the weights in front of logp) - (weight in front of logp[c])
        const Acc at_target = sharp * target_weight, each = counts ? smooth : Acc(0), all = at_target + each * total;
        T* to = static_cast<T*>(p.gradient) + row * p.classes;
        sweep<T>(length, vector_gradient, part, [&]<int N>(int64_t first) {
            Acc values[N];
            load(values, from, first, p.class_stride);
#pragma unroll
            for (int i = 0; i < N; ++i) {
                const Acc w = each != 0 && weight ? weight[first + i] : Acc(1);
                const Acc probability = quotient(exponential(values[i] - max), sum, inverse);
                values[i] = bad ? Acc(0) : probability * all - each * w - (first + i == target ? at_target : Acc(0));
            }
            store(to, first, int64_t(1), values);
        });
    }
}

unsigned grid_for(int64_t rows, const SoftmaxConfig& config) {
    const int64_t at_once = config.block / config.team;
    return unsigned(std::min<int64_t>((rows + at_once - 1) / at_once, 1 << 30));
}

// Whether every row of a (outer, length, 1) array begins on 16 bytes and runs without gaps.
template <class T>
bool vectors(const void* base, int64_t outer, int64_t outer_stride, int64_t axis_stride) {
    return aligned_for<kElements<T>>(static_cast<const T*>(base)) && axis_stride == 1 &&
           (outer <= 1 || outer_stride % kElements<T> == 0);
}

template <class Acc>
unsigned shared_bytes(const SoftmaxConfig& config) {
    return unsigned((config.columns ? config.block : kMaxWarps) * sizeof(MaxSum<Acc>));
}

}  // namespace

void softmax(void* out, const void* x, DType dtype, const SoftmaxLayout& l, bool log, const SoftmaxConfig& config,
             cudaStream_t stream) {
    check(config);
    const int64_t rows = l.outer * l.inner;
    if (rows == 0 || l.length == 0) return;
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const dim3 grid(grid_for(rows, config)), block(config.block);
        const unsigned shared = shared_bytes<accumulator_t<T>>(config);
        auto* to = static_cast<T*>(out);
        auto* from = static_cast<const T*>(x);
        if (config.columns) {
            gpu::launch<softmax_kernel<T, true>>(grid, block, shared, stream, to, from, l, config.team, log, false);
        } else {
            if (l.inner != 1)
                throw std::invalid_argument("softmax: " + config.to_string() +
                                            " needs an axis that is the last in memory");
            const bool vector =
                vectors<T>(out, l.outer, l.out.outer, l.out.axis) && vectors<T>(x, l.outer, l.x.outer, l.x.axis);
            gpu::launch<softmax_kernel<T, false>>(grid, block, shared, stream, to, from, l, config.team, log, vector);
        }
    });
}

void softmax_backward(void* out, const void* x, const void* y, DType dtype, const SoftmaxLayout& l, bool log,
                      const SoftmaxConfig& config, cudaStream_t stream) {
    check(config);
    const int64_t rows = l.outer * l.inner;
    if (rows == 0 || l.length == 0) return;
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const dim3 grid(grid_for(rows, config)), block(config.block);
        const unsigned shared = shared_bytes<accumulator_t<T>>(config);
        auto* to = static_cast<T*>(out);
        auto* gradient = static_cast<const T*>(x);
        auto* result = static_cast<const T*>(y);
        if (config.columns) {
            gpu::launch<softmax_backward_kernel<T, true>>(grid, block, shared, stream, to, gradient, result, l,
                                                          config.team, log, false);
        } else {
            if (l.inner != 1)
                throw std::invalid_argument("softmax_backward: " + config.to_string() +
                                            " needs an axis that is the last in memory");
            const bool vector = vectors<T>(out, l.outer, l.out.outer, l.out.axis) &&
                                vectors<T>(x, l.outer, l.x.outer, l.x.axis) &&
                                vectors<T>(y, l.outer, l.y.outer, l.y.axis);
            gpu::launch<softmax_backward_kernel<T, false>>(grid, block, shared, stream, to, gradient, result, l,
                                                           config.team, log, vector);
        }
    });
}

void cross_entropy(const CrossEntropy& p, DType dtype, DType target_dtype, const SoftmaxConfig& config,
                   cudaStream_t stream) {
    check(config);
    if (config.columns)
        throw std::invalid_argument("cross_entropy: " + config.to_string() + " is a config for softmax alone");
    if (p.rows == 0) return;
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        // The loss is the same to the bit with and without a gradient, whose alignment decides about its own sweep only.
        const bool vector = vectors<T>(p.logits, p.rows, p.row_stride, p.class_stride);
        const bool vector_gradient = vector && vectors<T>(p.gradient, p.rows, p.classes, 1);
        gpu::launch<cross_entropy_kernel<T>>(dim3(grid_for(p.rows, config)), dim3(config.block),
                                             shared_bytes<accumulator_t<T>>(config), stream, p, target_dtype,
                                             config.team, vector, vector_gradient);
    });
}
