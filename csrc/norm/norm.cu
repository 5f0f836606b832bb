// Normalisation within a sample: layer, RMS, group and instance norms. A team of threads has one sample's group and
// sweeps it twice: for its statistics, then, from the caches, for the results.
#include "../device/philox.cuh"
#include "../reduction/reduction.h"
#include "norm_common.cuh"

namespace {

// This thread's part in a group: elements in memory order, team apart.
struct Part { int lane, team; };

// Calls f<N>(line, i) for this thread's elements [i, i + N) of every line: N is kNormElements<T> where `vector`, whose
// lines are whole vectors unless there is only one, and 1 otherwise.
template <class T, class F>
__device__ __forceinline__ void sweep(const NormLines& lines, bool vector, Part part, F f) {
    constexpr int kN = kNormElements<T>;
    int64_t done = 0;
    if (vector) {
        const int64_t packs = lines.inner / kN, all = lines.lines * packs;
        for (int64_t p = part.lane; p < all; p += part.team) {
            const int64_t line = lines.lines == 1 ? 0 : p / packs;
            f.template operator()<kN>(line, (p - line * packs) * kN);
        }
        done = all * kN;
    }
    for (int64_t e = done + part.lane; e < lines.lines * lines.inner; e += part.team) {
        const int64_t line = lines.lines == 1 ? 0 : e / lines.inner;
        f.template operator()<1>(line, e - line * lines.inner);
    }
}

__device__ __forceinline__ NormLines lines_of_group(const NormShape& shape, int64_t channels) {
    return shape.channels_last ? NormLines{shape.s, channels, true} : NormLines{channels, shape.s, false};
}

template <class T>
__device__ __forceinline__ T* group_start(T* base, const NormStrides& strides, int64_t sample, int64_t first_channel) {
    return base + sample * strides.n + first_channel * strides.c;
}

// values times what dropout multiplies elements place .. place + N - 1 by; of N >= 4, place is a multiple of 4.
template <int N, class A>
__device__ __forceinline__ void drop(A (&values)[N], const NormDropout& dropout, uint64_t place) {
    if (dropout.threshold == 0) return;
    const uint64_t seed = dropout.state[0], offset = dropout.state[1] + dropout.offset;
    uint4 words{};
#pragma unroll
    for (int j = 0; j < N; ++j) {
        const int which = N >= 4 ? j % 4 : int((place + j) % 4);
        if (N < 4 || which == 0) words = philox(seed, (place + j) / 4, offset);
        values[j] = word(words, which) >> 8 >= dropout.threshold ? values[j] * A(dropout.scale) : A(0);
    }
}

template <class T>
__global__ void __launch_bounds__(kNormThreads, 1)
group_norm_kernel(const __grid_constant__ GroupNorm p, NormSteps y_step, NormSteps x_step, int team, bool vector) {
    using Acc = accumulator_t<T>;
    GPU_SHARED(shared);
    const Part part{int(threadIdx.x) % team, team};
    const int64_t rows = p.shape.n * p.groups, rows_at_once = blockDim.x / team, channels = p.shape.c / p.groups;
    const Acc count = Acc(channels * p.shape.s);
    // The loop is the same for all threads of the block, whose teams must all come to the reductions.
    for (int64_t base = blockIdx.x * rows_at_once; base < rows; base += gridDim.x * rows_at_once) {
        const int64_t row = base + threadIdx.x / team, sample = row / p.groups, channel0 = row % p.groups * channels;
        const NormLines lines = row < rows ? lines_of_group(p.shape, channels) : NormLines{0, 0, false};
        const T* const x = group_start(static_cast<const T*>(p.x), p.x_strides, sample, channel0);
        // The first sweep takes x, or makes the sum; the second takes what this thread took or made.
        T* const sum = static_cast<T*>(p.add.sum) + row * channels;
        const auto take = [&]<int N>(Acc(&values)[N], int64_t line, int64_t i) {
            load(values, x + line * x_step.line + i * x_step.inner);
            if (!p.add.residual) return;
            Acc residual[N];
            load(residual, static_cast<const T*>(p.add.residual) + row * channels + i);
            drop(values, p.add.dropout, uint64_t(row * channels + i));
#pragma unroll
            for (int j = 0; j < N; ++j) values[j] = convert<Acc>(convert<T>(residual[j] + values[j]));
            store(sum + i, values);
        };
        Acc mean = 0, variance;
        if (p.mean) {
            auto moments = Moments<Acc>::identity();
            sweep<T>(lines, vector, part, [&]<int N>(int64_t line, int64_t i) {
                Acc values[N];
                take(values, line, i);
                include(moments, values);
            });
            moments = team_reduce(moments, team, reinterpret_cast<Moments<Acc>*>(shared), CombineMoments());
            mean = moments.mean, variance = moments.squares / count;
        } else {
            Acc squares = 0;
            sweep<T>(lines, vector, part, [&]<int N>(int64_t line, int64_t i) {
                Acc values[N];
                take(values, line, i);
#pragma unroll
                for (int j = 0; j < N; ++j) squares += values[j] * values[j];
            });
            variance = team_reduce(squares, team, reinterpret_cast<Acc*>(shared), Add()) / count;
        }
        const Acc rstd = reciprocal_root(variance + Acc(p.eps));
        if (row < rows && part.lane == 0) {
            if (p.mean) static_cast<Acc*>(p.mean)[row] = mean;
            static_cast<Acc*>(p.rstd)[row] = rstd;
        }
        T* const y = group_start(static_cast<T*>(p.y), p.y_strides, sample, channel0);
        sweep<T>(lines, vector, part, [&]<int N>(int64_t line, int64_t i) {
            const int64_t channel = channel0 + (lines.channels_last ? i : line);
            Acc values[N], weight[N], bias[N];
            load(values, p.add.residual ? sum + i : x + line * x_step.line + i * x_step.inner);
            parameters<N, T>(weight, p.weight, channel, lines.channels_last, Acc(1));
            parameters<N, T>(bias, p.bias, channel, lines.channels_last, Acc(0));
#pragma unroll
            for (int j = 0; j < N; ++j) values[j] = (values[j] - mean) * rstd * weight[j] + bias[j];
            store(y + line * y_step.line + i * y_step.inner, values);
        });
    }
}

// Where a team's sums of gradients for parameter i lie in shared memory: the threads of a warp, whose vectors of kN begin
// kN apart, touch neighbours.
template <class T>
__device__ __forceinline__ int64_t sum_place(int64_t i, int64_t length, bool vector) {
    constexpr int64_t kN = kNormElements<T>;
    const int64_t packs = vector ? length / kN : 0;
    return i < packs * kN ? i % kN * packs + i / kN : i;
}

template <class T>
__global__ void __launch_bounds__(kNormThreads, 1)
group_norm_backward_kernel(const __grid_constant__ GroupNormBackward p, NormSteps dx_step, NormSteps grad_step,
                           NormSteps x_step, int team, bool vector, bool sums) {
    using Acc = accumulator_t<T>;
    GPU_SHARED(shared);
    Acc* const partial = reinterpret_cast<Acc*>(shared);  // (kMaxWarps,)
    Acc* const block_sums = partial + kMaxWarps;          // (teams, 2, c) where sums
    const Part part{int(threadIdx.x) % team, team};
    const int64_t rows = p.shape.n * p.groups, rows_at_once = blockDim.x / team, channels = p.shape.c / p.groups;
    const Acc inverse_count = Acc(1.0 / double(channels * p.shape.s));
    Acc* const of_weight = block_sums + int64_t(threadIdx.x / team) * 2 * p.shape.c;
    Acc* const of_bias = of_weight + p.shape.c;
    if (sums)  // not by the threads that will add to them: these take whole vectors
        for (int64_t i = part.lane; i < p.shape.c; i += team) of_weight[i] = of_bias[i] = 0;
    if (sums) __syncthreads();
    for (int64_t base = blockIdx.x * rows_at_once; base < rows; base += gridDim.x * rows_at_once) {
        const int64_t row = base + threadIdx.x / team, sample = row / p.groups, channel0 = row % p.groups * channels;
        const bool present = row < rows;
        const NormLines lines = present ? lines_of_group(p.shape, channels) : NormLines{0, 0, false};
        const T* const x = group_start(static_cast<const T*>(p.x), p.x_strides, sample, channel0);
        const T* const grad = group_start(static_cast<const T*>(p.grad), p.grad_strides, sample, channel0);
        const Acc mean = present && p.mean ? static_cast<const Acc*>(p.mean)[row] : Acc(0);
        const Acc rstd = present ? static_cast<const Acc*>(p.rstd)[row] : Acc(0);
        Acc across = 0, along = 0;  // sums of g and of g * h
        sweep<T>(lines, vector, part, [&]<int N>(int64_t line, int64_t i) {
            const int64_t channel = channel0 + (lines.channels_last ? i : line);
            Acc g[N], h[N], weight[N];
            load(g, grad + line * grad_step.line + i * grad_step.inner);
            load(h, x + line * x_step.line + i * x_step.inner);
            parameters<N, T>(weight, p.weight, channel, lines.channels_last, Acc(1));
#pragma unroll
            for (int j = 0; j < N; ++j) {
                h[j] = (h[j] - mean) * rstd;
                if (sums) {
                    const int64_t place = sum_place<T>(i + j, p.shape.c, vector);
                    of_weight[place] += g[j] * h[j];
                    of_bias[place] += g[j];
                }
                g[j] *= weight[j];
                across += g[j];
                along += g[j] * h[j];
            }
        });
        along = team_reduce(along, team, partial, Add()) * inverse_count;
        across = p.mean ? team_reduce(across, team, partial, Add()) * inverse_count : Acc(0);
        T* const dx = group_start(static_cast<T*>(p.dx), p.dx_strides, sample, channel0);
        sweep<T>(lines, vector, part, [&]<int N>(int64_t line, int64_t i) {
            const int64_t channel = channel0 + (lines.channels_last ? i : line);
            Acc g[N], h[N], weight[N];
            load(g, grad + line * grad_step.line + i * grad_step.inner);
            load(h, x + line * x_step.line + i * x_step.inner);
            parameters<N, T>(weight, p.weight, channel, lines.channels_last, Acc(1));
#pragma unroll
            for (int j = 0; j < N; ++j) g[j] = rstd * (g[j] * weight[j] - across - (h[j] - mean) * rstd * along);
            if (p.of_sum) {
                load(h, static_cast<const T*>(p.of_sum) + row * channels + i);
#pragma unroll
                for (int j = 0; j < N; ++j) g[j] += h[j];
            }
            store(dx + line * dx_step.line + i * dx_step.inner, g);
            if (p.dropped) {
                drop(g, p.dropout, uint64_t(row * channels + i));
                store(static_cast<T*>(p.dropped) + row * channels + i, g);
            }
        });
    }
    if (!sums) return;
    __syncthreads();
    Acc* const out = static_cast<Acc*>(p.workspace) + int64_t(blockIdx.x) * 2 * p.shape.c;  // (2, c) of (blocks, 2, c)
    for (int64_t i = threadIdx.x; i < 2 * p.shape.c; i += blockDim.x) {
        const int64_t which = i / p.shape.c, place = sum_place<T>(i % p.shape.c, p.shape.c, vector);
        Acc sum = 0;
        for (int64_t t = 0; t < rows_at_once; ++t) sum += block_sums[(t * 2 + which) * p.shape.c + place];
        out[i] = sum;
    }
}

// dest: (c,), the sum over blocks of part `which` of (blocks, 2, c).
void add_blocks(const NormParameter& to, int which, const GroupNormBackward& p, DType dtype, int blocks,
                cudaStream_t stream) {
    if (!to.data) return;
    const DType sums = dtype == DType::float64 ? DType::float64 : DType::float32;
    const int bytes = dtype == DType::float64 ? 8 : 4;
    column_sum(to.data, to.wide ? DType::float32 : dtype,
               static_cast<const char*>(p.workspace) + which * p.shape.c * bytes, sums, blocks, p.shape.c,
               2 * p.shape.c, 1, nullptr, ColumnSumConfig{}, stream);
}

unsigned grid_for(int64_t rows, const NormConfig& config) {
    const int64_t at_once = config.block / config.team;
    return unsigned(std::min<int64_t>((rows + at_once - 1) / at_once, 1 << 30));
}

// Whether lines are whole vectors: of several lines each must be.
template <class T>
bool whole_vectors(const NormShape& shape, int64_t group_channels) {
    const int64_t lines = shape.channels_last ? shape.s : group_channels,
                  inner = shape.channels_last ? group_channels : shape.s;
    return lines == 1 || inner % kNormElements<T> == 0;
}

// Whether a contiguous (n, channels) array, or null, can be taken in vectors.
template <class T>
bool vector_rows(const void* base, int64_t channels) {
    return !base || (aligned_for<kNormElements<T>>(static_cast<const T*>(base)) && channels % kNormElements<T> == 0);
}

void check_rows(const char* function, const NormShape& shape, int64_t groups) {
    if (shape.s != 1 || groups != 1 || !shape.channels_last)
        throw std::invalid_argument(std::string(function) + ": sums are of one group of one position");
}

}  // namespace

void group_norm(const GroupNorm& p, DType dtype, const NormConfig& config, cudaStream_t stream) {
    check(config);
    if (p.add.residual) check_rows("group_norm", p.shape, p.groups);
    const int64_t rows = p.shape.n * p.groups, channels = p.shape.c / p.groups;
    if (rows == 0 || channels * p.shape.s == 0) return;
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const bool vector =
            whole_vectors<T>(p.shape, channels) && vector_lines<T>(p.y, p.y_strides, p.shape, channels) &&
            vector_lines<T>(p.x, p.x_strides, p.shape, channels) && vector_rows<T>(p.add.residual, channels) &&
            (!p.add.residual || vector_rows<T>(p.add.sum, channels)) &&
            (!p.shape.channels_last || (vector_parameter<T>(p.weight) && vector_parameter<T>(p.bias)));
        gpu::launch<group_norm_kernel<T>>(
            dim3(grid_for(rows, config)), dim3(config.block), kMaxWarps * sizeof(Moments<accumulator_t<T>>), stream, p,
            steps(p.y_strides, p.shape.channels_last), steps(p.x_strides, p.shape.channels_last), config.team, vector);
    });
}

void group_norm_backward(const GroupNormBackward& p, DType dtype, const NormConfig& config, cudaStream_t stream) {
    check(config);
    const int64_t rows = p.shape.n * p.groups, channels = p.shape.c / p.groups;
    const bool wanted = p.of_weight.data || p.of_bias.data;
    const bool sums = wanted && config.blocks > 0;
    if (p.of_sum || p.dropped) check_rows("group_norm_backward", p.shape, p.groups);
    if (config.blocks > 0 && (p.groups != 1 || p.shape.s != 1 || !p.shape.channels_last))
        throw std::invalid_argument("group_norm_backward: " + config.to_string() +
                                    " sums as it goes, for one group and one position");
    if (rows == 0 || channels * p.shape.s == 0) return;
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using Acc = accumulator_t<T>;
        const bool vector =
            whole_vectors<T>(p.shape, channels) && vector_lines<T>(p.dx, p.dx_strides, p.shape, channels) &&
            vector_lines<T>(p.grad, p.grad_strides, p.shape, channels) &&
            vector_lines<T>(p.x, p.x_strides, p.shape, channels) && vector_rows<T>(p.of_sum, channels) &&
            vector_rows<T>(p.dropped, channels) && (!p.shape.channels_last || vector_parameter<T>(p.weight));
        const int64_t shared =
            kMaxWarps * int64_t(sizeof(Acc)) + (sums ? norm_sums_bytes(config, p.shape.c, sizeof(Acc)) : 0);
        if (shared > current_device().shared_per_block)
            throw std::invalid_argument("group_norm_backward: " + config.to_string() + " needs " +
                                        std::to_string(shared) + " bytes of shared memory");
        gpu::launch<group_norm_backward_kernel<T>>(
            dim3(sums ? unsigned(config.blocks) : grid_for(rows, config)), dim3(config.block), unsigned(shared), stream,
            p, steps(p.dx_strides, p.shape.channels_last), steps(p.grad_strides, p.shape.channels_last),
            steps(p.x_strides, p.shape.channels_last), config.team, vector, sums);
    });
    if (!wanted) return;
    if (sums) {
        add_blocks(p.of_weight, 0, p, dtype, config.blocks, stream);
        add_blocks(p.of_bias, 1, p, dtype, config.blocks, stream);
    } else {
        norm_parameter_gradients({p.of_weight,
                                  p.of_bias,
                                  p.grad,
                                  p.x,
                                  nullptr,
                                  p.mean,
                                  p.rstd,
                                  p.workspace,
                                  p.shape,
                                  p.grad_strides,
                                  p.x_strides,
                                  {},
                                  p.groups},
                                 dtype, config, stream);
    }
}
