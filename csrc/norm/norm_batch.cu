// Normalisation across samples. Sums over samples and positions: a block takes `columns` channels side by side and a part
// of the samples and positions; parts are added in order by a second pass. Then one sweep in memory order.
#include "norm_common.cuh"

namespace {

constexpr int kApplyThreads = 256;

// ---- sums over samples and positions ------------------------------------------------------------------------------

// This block's and thread's share of (n * s) x c.
struct Share {
    int64_t channel;      // may lie beyond c
    int64_t first, last;  // of n * s
    int lane, lanes;      // this thread takes first + lane, + lanes, ...
    int column;
};

__device__ __forceinline__ Share share_of(const NormShape& shape, int64_t block, int columns, int splits) {
    const int64_t all = shape.n * shape.s, each = (all + splits - 1) / splits;
    const int column = int(threadIdx.x) % columns;
    const int64_t first = int64_t(blockIdx.y) * each;
    return {block * columns + column,   min(first, all),           min(first + each, all),
            int(threadIdx.x) / columns, int(blockDim.x) / columns, column};
}

// Calls f(sample, position) for a thread's share, with one division for all of it.
template <class F>
__device__ __forceinline__ void walk(const NormShape& shape, const Share& share, F f) {
    const int64_t start = share.first + share.lane, step_samples = share.lanes / shape.s,
                  step_positions = share.lanes % shape.s;
    int64_t sample = start / shape.s, position = start % shape.s;
    for (int64_t r = start; r < share.last; r += share.lanes) {
        f(sample, position);
        sample += step_samples, position += step_positions;
        if (position >= shape.s) position -= shape.s, ++sample;
    }
}

__device__ __forceinline__ int64_t column_blocks(const NormShape& shape, int columns) {
    return (shape.c + columns - 1) / columns;
}

// Over the lanes of a column, in order; lane 0 has the result. partial: blockDim.x elements.
template <class S, class Op>
__device__ __forceinline__ S lanes_reduce(S value, const Share& share, int columns, S* partial, Op op) {
    if (share.lanes == 1) return value;
    __syncthreads();  // earlier readers are done
    // A tree: the distance halves, and is even at every step, since lanes is a power of two.
    partial[threadIdx.x] = value;
    for (int half = share.lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (share.lane < half) {
            value = op(value, partial[(share.lane + half) * columns + share.column]);
            partial[threadIdx.x] = value;
        }
    }
    return value;
}

template <class A>
__device__ __forceinline__ void
leave_moments(A* parts, const Moments<A>& moments, const NormShape& shape, const Share& share) {
    if (share.lane || share.channel >= shape.c) return;
    A* const to = parts + int64_t(blockIdx.y) * 3 * shape.c + share.channel;
    to[0] = moments.count, to[shape.c] = moments.mean, to[2 * shape.c] = moments.squares;
}

// parts: (splits, 3, c), count, mean and squared deviations of each part.
template <class T>
__global__ void __launch_bounds__(kNormChannelThreads)
channel_moments_kernel(accumulator_t<T>* __restrict__ parts, const T* __restrict__ x, NormShape shape,
                       NormStrides strides, int columns) {
    using Acc = accumulator_t<T>;
    GPU_SHARED(shared);
    auto* const partial = reinterpret_cast<Moments<Acc>*>(shared);
    for (int64_t block = blockIdx.x; block < column_blocks(shape, columns); block += gridDim.x) {
        const Share share = share_of(shape, block, columns, int(gridDim.y));
        auto moments = Moments<Acc>::identity();
        if (share.channel < shape.c) {
            constexpr int kBatch = 4;  // one division for so many elements
            Acc values[kBatch];
            int held = 0;
            walk(shape, share, [&](int64_t sample, int64_t position) {
                const Acc value =
                    convert<Acc>(x[sample * strides.n + share.channel * strides.c + position * strides.s]);
#pragma unroll
                for (int i = 0; i < kBatch; ++i)
                    if (i == held) values[i] = value;
                if (++held == kBatch) include(moments, values), held = 0;
            });
#pragma unroll
            for (int i = 0; i < kBatch; ++i) {
                if (i >= held) break;
                const Acc one[1] = {values[i]};
                include(moments, one);
            }
        }
        moments = lanes_reduce(moments, share, columns, partial, CombineMoments());
        leave_moments(parts, moments, shape, share);
    }
}

// The same of moments (given, 3, c) that something else has taken, a part of which is a sample.
template <class A>
__global__ void __launch_bounds__(kNormChannelThreads, 4)
given_moments_kernel(A* __restrict__ parts, const A* __restrict__ given, NormShape shape, int columns) {
    GPU_SHARED(shared);
    auto* const partial = reinterpret_cast<Moments<A>*>(shared);
    for (int64_t block = blockIdx.x; block < column_blocks(shape, columns); block += gridDim.x) {
        const Share share = share_of(shape, block, columns, int(gridDim.y));
        auto moments = Moments<A>::identity();
        if (share.channel < shape.c) {
#pragma unroll 1
            for (int64_t part = share.first + share.lane; part < share.last; part += share.lanes) {
                const A* const from = given + part * 3 * shape.c + share.channel;
                moments = CombineMoments()(moments, Moments<A>{from[0], from[shape.c], from[2 * shape.c]});
            }
        }
        moments = lanes_reduce(moments, share, columns, partial, CombineMoments());
        leave_moments(parts, moments, shape, share);
    }
}

template <class A>
__device__ __forceinline__ void move_running(void* running, DType dtype, int64_t channel, A value, A momentum) {
    const auto move = [&](auto* p) {
        using R = std::remove_pointer_t<decltype(p)>;
        p[channel] = convert<R>(A((1 - momentum) * convert<A>(p[channel]) + momentum * value));
    };
    if (!running) return;
    if constexpr (sizeof(A) == 8) {
        move(static_cast<double*>(running));
    } else {
        if (dtype == DType::float16) move(static_cast<__half*>(running));
        else if (dtype == DType::bfloat16) move(static_cast<__nv_bfloat16*>(running));
        else move(static_cast<float*>(running));
    }
}

template <class T>
__global__ void __launch_bounds__(kApplyThreads)
batch_statistics_kernel(const __grid_constant__ BatchNorm p, int splits) {
    using Acc = accumulator_t<T>;
    const Acc* const parts = static_cast<const Acc*>(p.workspace);
    for (int64_t c = blockIdx.x * blockDim.x + threadIdx.x; c < p.shape.c; c += gridDim.x * int64_t(blockDim.x)) {
        auto moments = Moments<Acc>::identity();
        for (int i = 0; i < splits; ++i) {
            const Acc* const part = parts + int64_t(i) * 3 * p.shape.c + c;
            moments = CombineMoments()(moments, Moments<Acc>{part[0], part[p.shape.c], part[2 * p.shape.c]});
        }
        const Acc count = Acc(p.shape.n * p.shape.s), variance = moments.squares / count;
        static_cast<Acc*>(p.mean)[c] = moments.mean;
        static_cast<Acc*>(p.rstd)[c] = reciprocal_root(variance + Acc(p.eps));
        move_running(p.running_mean, p.running, c, moments.mean, Acc(p.momentum));
        move_running(p.running_var, p.running, c, moments.squares / (count - 1),
                     Acc(p.momentum));  // of one element: 0 / 0
    }
}

template <class T>
__global__ void __launch_bounds__(kApplyThreads) running_statistics_kernel(const __grid_constant__ BatchNorm p) {
    using Acc = accumulator_t<T>;
    const auto value = [&](const void* from, int64_t c) {
        if (p.running == DType::float16) return convert<Acc>(convert<float>(static_cast<const __half*>(from)[c]));
        if (p.running == DType::bfloat16)
            return convert<Acc>(convert<float>(static_cast<const __nv_bfloat16*>(from)[c]));
        if (p.running == DType::float64) return convert<Acc>(static_cast<const double*>(from)[c]);
        return convert<Acc>(static_cast<const float*>(from)[c]);
    };
    for (int64_t c = blockIdx.x * blockDim.x + threadIdx.x; c < p.shape.c; c += gridDim.x * int64_t(blockDim.x)) {
        static_cast<Acc*>(p.mean)[c] = value(p.running_mean, c);
        static_cast<Acc*>(p.rstd)[c] = reciprocal_root(value(p.running_var, c) + Acc(p.eps));
    }
}

// parts: (splits, 2, c), sums of g * h and of g over each part.
template <class T>
__global__ void __launch_bounds__(kNormChannelThreads)
channel_gradients_kernel(const __grid_constant__ NormParameterGradients p, int columns) {
    using Acc = accumulator_t<T>;
    GPU_SHARED(shared);
    Acc* const partial = reinterpret_cast<Acc*>(shared);
    const T *const grad = static_cast<const T*>(p.grad), *const x = static_cast<const T*>(p.x),
                   *const y = static_cast<const T*>(p.y);
    const Acc *const means = static_cast<const Acc*>(p.mean), *const rstds = static_cast<const Acc*>(p.rstd);
    for (int64_t block = blockIdx.x; block < column_blocks(p.shape, columns); block += gridDim.x) {
        const Share share = share_of(p.shape, block, columns, int(gridDim.y));
        const int64_t c = share.channel, group = p.groups ? c / (p.shape.c / p.groups) : c;
        Acc along = 0, across = 0;
        if (c < p.shape.c)
            walk(p.shape, share, [&](int64_t sample, int64_t position) {
                const int64_t which = sample * p.groups + group;
                Acc g =
                    convert<Acc>(grad[sample * p.grad_strides.n + c * p.grad_strides.c + position * p.grad_strides.s]);
                if (y && !(convert<Acc>(y[sample * p.y_strides.n + c * p.y_strides.c + position * p.y_strides.s]) > 0))
                    g = 0;
                const Acc value =
                    convert<Acc>(x[sample * p.x_strides.n + c * p.x_strides.c + position * p.x_strides.s]);
                across += g;
                along += g * ((value - (means ? means[which] : Acc(0))) * rstds[which]);
            });
        along = lanes_reduce(along, share, columns, partial, Add());
        across = lanes_reduce(across, share, columns, partial, Add());
        if (share.lane == 0 && c < p.shape.c) {
            Acc* const to = static_cast<Acc*>(p.workspace) + int64_t(blockIdx.y) * 2 * p.shape.c + c;
            to[0] = along, to[p.shape.c] = across;
        }
    }
}

template <class T>
__global__ void __launch_bounds__(kApplyThreads)
parameter_gradients_kernel(const __grid_constant__ NormParameterGradients p, int splits) {
    using Acc = accumulator_t<T>;
    Acc* const parts = static_cast<Acc*>(p.workspace);
    for (int64_t c = blockIdx.x * blockDim.x + threadIdx.x; c < p.shape.c; c += gridDim.x * int64_t(blockDim.x)) {
        Acc along = 0, across = 0;
        for (int i = 0; i < splits; ++i) {
            along += parts[int64_t(i) * 2 * p.shape.c + c];
            across += parts[(int64_t(i) * 2 + 1) * p.shape.c + c];
        }
        Acc* const sums = parts + int64_t(splits) * 2 * p.shape.c;
        sums[c] = along, sums[p.shape.c + c] = across;
        store_parameter<T>(p.of_weight, c, along);
        store_parameter<T>(p.of_bias, c, across);
    }
}

// ---- one sweep over everything -------------------------------------------------------------------------------------

// Calls f<N>(sample, channel, position) for N elements that are neighbours in memory, over the whole array.
template <class T, class F>
__device__ __forceinline__ void sweep(const NormShape& shape, bool vector, F f) {
    constexpr int kN = kNormElements<T>;
    const int64_t inner = shape.channels_last ? shape.c : shape.s,
                  lines = shape.n * (shape.channels_last ? shape.s : shape.c);
    const int64_t each = vector ? inner / kN : inner, all = lines * each, threads = gridDim.x * int64_t(blockDim.x);
    const int64_t in_sample = shape.channels_last ? shape.s : shape.c;
    for (int64_t e = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; e < all; e += threads) {
        const int64_t line = e / each, i = (e - line * each) * (vector ? kN : 1);
        const int64_t sample = line / in_sample, rest = line - sample * in_sample;
        const int64_t channel = shape.channels_last ? i : rest, position = shape.channels_last ? rest : i;
        if (vector) f.template operator()<kN>(sample, channel, position);
        else f.template operator()<1>(sample, channel, position);
    }
}

template <class T>
__device__ __forceinline__ T* at(T* base, const NormStrides& s, int64_t sample, int64_t channel, int64_t position) {
    return base + sample * s.n + channel * s.c + position * s.s;
}

template <int N, class A>
__device__ __forceinline__ void statistics(A (&values)[N], const A* from, int64_t channel, bool of_channels) {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = from[channel + (of_channels ? i : 0)];
}

template <class T>
__global__ void __launch_bounds__(kApplyThreads) batch_norm_kernel(const __grid_constant__ BatchNorm p, bool vector) {
    using Acc = accumulator_t<T>;
    const bool last = p.shape.channels_last;
    sweep<T>(p.shape, vector, [&]<int N>(int64_t n, int64_t c, int64_t s) {
        Acc values[N], mean[N], rstd[N], weight[N], bias[N];
        load(values, at(static_cast<const T*>(p.x), p.x_strides, n, c, s));
        statistics(mean, static_cast<const Acc*>(p.mean), c, last);
        statistics(rstd, static_cast<const Acc*>(p.rstd), c, last);
        parameters<N, T>(weight, p.weight, c, last, Acc(1));
        parameters<N, T>(bias, p.bias, c, last, Acc(0));
#pragma unroll
        for (int i = 0; i < N; ++i) values[i] = (values[i] - mean[i]) * (rstd[i] * weight[i]) + bias[i];
        if (p.residual) {
            Acc residual[N];
            load(residual, at(static_cast<const T*>(p.residual), p.residual_strides, n, c, s));
#pragma unroll
            for (int i = 0; i < N; ++i) values[i] += residual[i];
        }
        if (p.relu)
#pragma unroll
            for (int i = 0; i < N; ++i) values[i] = values[i] <= 0 ? Acc(0) : values[i];  // NaN stays NaN
        store(at(static_cast<T*>(p.y), p.y_strides, n, c, s), values);
    });
}

template <class T>
__global__ void __launch_bounds__(kApplyThreads)
batch_norm_backward_kernel(const __grid_constant__ BatchNormBackward p, int splits, bool vector) {
    using Acc = accumulator_t<T>;
    const bool last = p.shape.channels_last;
    const Acc inverse_count = Acc(1.0 / double(p.shape.n * p.shape.s));
    const Acc* const along_sums = static_cast<const Acc*>(p.workspace) + int64_t(splits) * 2 * p.shape.c;
    const Acc* const across_sums = along_sums + p.shape.c;
    sweep<T>(p.shape, vector, [&]<int N>(int64_t n, int64_t c, int64_t s) {
        Acc g[N], x[N], mean[N], rstd[N], weight[N];
        load(g, at(static_cast<const T*>(p.grad), p.grad_strides, n, c, s));
        if (p.y) {
            Acc y[N];
            load(y, at(static_cast<const T*>(p.y), p.y_strides, n, c, s));
#pragma unroll
            for (int i = 0; i < N; ++i) g[i] = y[i] > 0 ? g[i] : Acc(0);
        }
        if (p.of_residual) store(at(static_cast<T*>(p.of_residual), p.residual_strides, n, c, s), g);
        statistics(rstd, static_cast<const Acc*>(p.rstd), c, last);
        parameters<N, T>(weight, p.weight, c, last, Acc(1));
        if (p.batch_statistics) {
            load(x, at(static_cast<const T*>(p.x), p.x_strides, n, c, s));
            statistics(mean, static_cast<const Acc*>(p.mean), c, last);
            Acc along[N], across[N];
            statistics(along, along_sums, c, last);
            statistics(across, across_sums, c, last);
#pragma unroll
            for (int i = 0; i < N; ++i) g[i] -= (across[i] + (x[i] - mean[i]) * rstd[i] * along[i]) * inverse_count;
        }
#pragma unroll
        for (int i = 0; i < N; ++i) g[i] *= rstd[i] * weight[i];
        store(at(static_cast<T*>(p.dx), p.dx_strides, n, c, s), g);
    });
}

// ---- launches ------------------------------------------------------------------------------------------------------

unsigned blocks_for(int64_t threads) {
    return unsigned(std::clamp<int64_t>((threads + kApplyThreads - 1) / kApplyThreads, 1, 1 << 20));
}

template <class T>
bool whole_vectors(const NormShape& shape) {
    return (shape.channels_last ? shape.c : shape.s) % kNormElements<T> == 0;
}

template <class T>
int64_t pieces(const NormShape& shape, bool vector) {
    return shape.n * shape.c * shape.s / (vector ? kNormElements<T> : 1);
}

dim3 channel_grid(const NormShape& shape, const NormConfig& config) {
    const int64_t blocks = (shape.c + config.columns - 1) / config.columns;
    return dim3(unsigned(std::min<int64_t>(blocks, 1 << 30)), unsigned(config.splits));
}

template <class T>
void apply(const BatchNorm& p, cudaStream_t stream) {
    const bool vector = whole_vectors<T>(p.shape) && vector_lines<T>(p.y, p.y_strides, p.shape, p.shape.c) &&
                        vector_lines<T>(p.x, p.x_strides, p.shape, p.shape.c) &&
                        vector_lines<T>(p.residual, p.residual_strides, p.shape, p.shape.c) &&
                        (!p.shape.channels_last || (vector_parameter<T>(p.weight) && vector_parameter<T>(p.bias)));
    gpu::launch<batch_norm_kernel<T>>(dim3(blocks_for(pieces<T>(p.shape, vector))), dim3(kApplyThreads), 0, stream, p,
                                      vector);
}

bool nothing(const NormShape& shape) { return shape.n * shape.c * shape.s == 0; }

}  // namespace

void batch_norm(const BatchNorm& p, DType dtype, const NormConfig& config, cudaStream_t stream) {
    check(config);
    if (nothing(p.shape)) return;
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        using Acc = accumulator_t<T>;
        const dim3 grid = channel_grid(p.shape, config), block(kNormChannelThreads);
        constexpr unsigned kShared = kNormChannelThreads * sizeof(Moments<Acc>);
        if (p.moments) {
            const NormShape given{p.moment_parts, p.shape.c, 1, true};
            gpu::launch<given_moments_kernel<Acc>>(grid, block, kShared, stream, static_cast<Acc*>(p.workspace),
                                                   static_cast<const Acc*>(p.moments), given, config.columns);
        } else {
            gpu::launch<channel_moments_kernel<T>>(grid, block, kShared, stream, static_cast<Acc*>(p.workspace),
                                                   static_cast<const T*>(p.x), p.shape, p.x_strides, config.columns);
        }
        gpu::launch<batch_statistics_kernel<T>>(dim3(blocks_for(p.shape.c)), dim3(kApplyThreads), 0, stream, p,
                                                config.splits);
        apply<T>(p, stream);
    });
}

void batch_norm_inference(const BatchNorm& p, DType dtype, const NormConfig& config, cudaStream_t stream) {
    check(config);
    if (nothing(p.shape)) return;
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        gpu::launch<running_statistics_kernel<T>>(dim3(blocks_for(p.shape.c)), dim3(kApplyThreads), 0, stream, p);
        apply<T>(p, stream);
    });
}

void norm_parameter_gradients(const NormParameterGradients& p, DType dtype, const NormConfig& config,
                              cudaStream_t stream) {
    check(config);
    if (nothing(p.shape)) return;
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        gpu::launch<channel_gradients_kernel<T>>(channel_grid(p.shape, config), dim3(kNormChannelThreads),
                                                 kNormChannelThreads * sizeof(accumulator_t<T>), stream, p,
                                                 config.columns);
        gpu::launch<parameter_gradients_kernel<T>>(dim3(blocks_for(p.shape.c)), dim3(kApplyThreads), 0, stream, p,
                                                   config.splits);
    });
}

void batch_norm_backward(const BatchNormBackward& p, DType dtype, const NormConfig& config, cudaStream_t stream) {
    check(config);
    if (nothing(p.shape)) return;
    norm_parameter_gradients({p.of_weight, p.of_bias, p.grad, p.x, p.y, p.mean, p.rstd, p.workspace, p.shape,
                              p.grad_strides, p.x_strides, p.y_strides, 0},
                             dtype, config, stream);
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const bool vector = whole_vectors<T>(p.shape) && vector_lines<T>(p.dx, p.dx_strides, p.shape, p.shape.c) &&
                            vector_lines<T>(p.of_residual, p.residual_strides, p.shape, p.shape.c) &&
                            vector_lines<T>(p.grad, p.grad_strides, p.shape, p.shape.c) &&
                            vector_lines<T>(p.x, p.x_strides, p.shape, p.shape.c) &&
                            vector_lines<T>(p.y, p.y_strides, p.shape, p.shape.c) &&
                            (!p.shape.channels_last || vector_parameter<T>(p.weight));
        gpu::launch<batch_norm_backward_kernel<T>>(dim3(blocks_for(pieces<T>(p.shape, vector))), dim3(kApplyThreads), 0,
                                                   stream, p, config.splits, vector);
    });
}
