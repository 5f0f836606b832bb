// Multi-tensor optimizer steps: a block finds the array its chunk belongs to, then streams through the chunk. What
// happens to an element is a rule: a struct that is made once a thread from the options, the rate and the step, and
// then called on param, gradient and states.
#include "optim_lists.cuh"

#include <cmath>
#include <type_traits>

namespace {

// torch.lerp's formula: exact at both ends.
template <class Acc>
__device__ __forceinline__ Acc lerp(Acc from, Acc to, Acc weight) {
    return weight < Acc(0.5) ? from + weight * (to - from) : to - (to - from) * (1 - weight);
}

template <class Acc>
struct Sgd {
    using Options = SgdStep;
    static constexpr int kPointers = 3;    // param, gradient, momentum
    Acc lr, momentum, keep, weight_decay;  // keep = 1 - dampening
    bool nesterov, maximize, first_step;

    __device__ __forceinline__ Sgd(const Options& o, Acc rate, Acc)
        : lr(rate),
          momentum(Acc(o.momentum)),
          keep(Acc(1 - o.dampening)),
          weight_decay(Acc(o.weight_decay)),
          nesterov(o.nesterov),
          maximize(o.maximize),
          first_step(o.first_step) {}

    __device__ __forceinline__ bool reads(int i) const { return i != 2 || !first_step; }

    __device__ __forceinline__ void operator()(Acc (&x)[kPointers]) const {
        Acc &p = x[0], g = x[1], &m = x[2];
        if (maximize) g = -g;
        if (weight_decay != 0) g += weight_decay * p;
        if (momentum != 0) {
            m = first_step ? g : momentum * m + keep * g;
            g = nesterov ? g + momentum * m : m;
        }
        p -= lr * g;
    }
};

template <class Acc>
struct Adam {
    using Options = AdamStep;
    static constexpr int kPointers = 5;  // param, gradient, exp_avg, exp_avg_sq, max_exp_avg_sq
    Acc beta2, rest1, rest2, weight_decay, keep, eps, step_size, root;  // rest = 1 - beta
    bool maximize;

    // 1 - beta^t is -expm1(t log beta): no digits cancel where beta^t is close to 1.
    __device__ __forceinline__ Adam(const Options& o, Acc rate, Acc t)
        : beta2(Acc(o.beta2)),
          rest1(Acc(1 - o.beta1)),
          rest2(Acc(1 - o.beta2)),
          weight_decay(o.decoupled ? Acc(0) : Acc(o.weight_decay)),
          keep(o.decoupled ? 1 - rate * Acc(o.weight_decay) : Acc(1)),
          eps(Acc(o.eps)),
          step_size(rate / -expm1(t * Acc(o.log_beta1))),
          root(sqrt(-expm1(t * Acc(o.log_beta2)))),
          maximize(o.maximize) {}

    __device__ __forceinline__ bool reads(int) const { return true; }

    __device__ __forceinline__ void operator()(Acc (&x)[kPointers]) const {
        Acc &p = x[0], g = x[1], &m = x[2], &v = x[3], &most = x[4];
        if (maximize) g = -g;
        if (weight_decay != 0) g += weight_decay * p;
        p *= keep;
        m = lerp(m, g, rest1);
        v = beta2 * v + rest2 * g * g;
        // Without amsgrad `most` is not kept: it is 0 here, and v is never below it.
        if (v > most || v != v) most = v;
        p -= step_size * (m / (sqrt(most) / root + eps));
    }
};

template <class Acc>
struct Adagrad {
    using Options = AdagradStep;
    static constexpr int kPointers = 3;  // param, gradient, sum
    Acc rate, weight_decay, eps;
    bool maximize;

    __device__ __forceinline__ Adagrad(const Options& o, Acc lr, Acc t)
        : rate(lr / (1 + (t - 1) * Acc(o.lr_decay))),
          weight_decay(Acc(o.weight_decay)),
          eps(Acc(o.eps)),
          maximize(o.maximize) {}

    __device__ __forceinline__ bool reads(int) const { return true; }

    __device__ __forceinline__ void operator()(Acc (&x)[kPointers]) const {
        Acc &p = x[0], g = x[1], &sum = x[2];
        if (maximize) g = -g;
        if (weight_decay != 0) g += weight_decay * p;
        sum += g * g;
        p -= rate * (g / (sqrt(sum) + eps));
    }
};

template <class Acc>
struct Rmsprop {
    using Options = RmspropStep;
    static constexpr int kPointers = 5;                // param, gradient, square_avg, momentum_buffer, grad_avg
    Acc lr, alpha, rest, eps, weight_decay, momentum;  // rest = 1 - alpha
    bool maximize, centered;

    __device__ __forceinline__ Rmsprop(const Options& o, Acc rate, Acc)
        : lr(rate),
          alpha(Acc(o.alpha)),
          rest(Acc(1 - o.alpha)),
          eps(Acc(o.eps)),
          weight_decay(Acc(o.weight_decay)),
          momentum(Acc(o.momentum)),
          maximize(o.maximize),
          centered(o.centered) {}

    __device__ __forceinline__ bool reads(int) const { return true; }

    __device__ __forceinline__ void operator()(Acc (&x)[kPointers]) const {
        Acc &p = x[0], g = x[1], &square = x[2], &buffer = x[3], &mean = x[4];
        if (maximize) g = -g;
        if (weight_decay != 0) g += weight_decay * p;
        square = alpha * square + rest * g * g;
        if (centered) mean = lerp(mean, g, rest);
        g = g / (sqrt(centered ? square - mean * mean : square) + eps);
        buffer = momentum * buffer + g;  // without momentum g alone, and not stored
        p -= lr * buffer;
    }
};

// Column j of x: n elements in a row, 16 bytes at a time.
template <int n, int kColumns, class Acc, class T>
__device__ __forceinline__ void read_column(Acc (&x)[n][kColumns], int j, const T* from) {
    constexpr int kAtOnce = n * sizeof(T) <= 16 ? n : 16 / int(sizeof(T));
#pragma unroll
    for (int first = 0; first < n; first += kAtOnce) {
        const Vector<T, kAtOnce> pack = load_vector<kAtOnce>(from + first);
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) x[first + k][j] = convert<Acc>(pack[k]);
    }
}

template <int n, int kColumns, class Acc, class T>
__device__ __forceinline__ void write_column(T* to, const Acc (&x)[n][kColumns], int j) {
    constexpr int kAtOnce = n * sizeof(T) <= 16 ? n : 16 / int(sizeof(T));
#pragma unroll
    for (int first = 0; first < n; first += kAtOnce) {
        Vector<T, kAtOnce> pack;
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) pack[k] = convert<T>(x[first + k][j]);
        store_vector(to + first, pack);
    }
}

// T: of gradients and params; S: of what is updated, T itself or with master weights float.
template <class T, class S, template <class> class Rule>
__global__ void __launch_bounds__(kOptimThreads, 2)
step_kernel(const __grid_constant__ OptimList<Rule<accumulator_t<S>>::kPointers + !std::is_same_v<T, S>> list,
            const __grid_constant__ typename Rule<accumulator_t<S>>::Options options, StepMemory memory, int chunk) {
    using Acc = accumulator_t<S>;
    constexpr bool kMaster = !std::is_same_v<T, S>;
    constexpr int kColumns = Rule<Acc>::kPointers;
    constexpr int kCount = 16 / sizeof(T);
    if (memory.gradients && memory.gradients[kGradientSkip] != 0) return;
    const Acc factor = memory.gradients ? Acc(memory.gradients[kGradientFactor]) : Acc(1);

    const int index = list.find(blockIdx.x);
    const auto& entry = list.entries[index];
    const T* grad = static_cast<const T*>(entry.pointers[1]);                   // (size,)
    T* narrow = kMaster ? static_cast<T*>(entry.pointers[kColumns]) : nullptr;  // (size,)
    S* array[kColumns];                                                         // (size,) each but [1]
    bool vectors = aligned16(grad) && aligned16(narrow);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
        array[i] = i == 1 ? nullptr : static_cast<S*>(entry.pointers[i]);
        vectors &= aligned16(array[i]);  // chunks are whole packs; null is aligned
    }
    const int64_t first = int64_t(blockIdx.x - list.first_block[index]) * chunk;
    const int64_t last = min(first + chunk, entry.size);
    const LearningRate& lr = options.lr;
    const Acc rate = !lr.array ? Acc(lr.number)
                     : lr.wide ? Acc(*static_cast<const double*>(lr.array))
                               : Acc(*static_cast<const float*>(lr.array));
    const Acc step = (memory.ticket ? Acc(*entry.step.array) : Acc(entry.step.number)) + 1;
    const Rule<Acc> rule(options, rate, step);

    const auto update = [&](auto width, int64_t i) {
        constexpr int n = decltype(width)::value;
        Acc x[n][kColumns]{};
        read_column(x, 1, grad + i);
#pragma unroll
        for (int j = 0; j < kColumns; ++j)
            if (array[j] && rule.reads(j)) read_column(x, j, array[j] + i);
#pragma unroll
        for (int k = 0; k < n; ++k) {
            x[k][1] *= factor;
            rule(x[k]);
        }
#pragma unroll
        for (int j = 0; j < kColumns; ++j)
            if (array[j]) write_column(array[j] + i, x, j);
        if constexpr (kMaster) write_column(narrow + i, x, 0);
    };
    int64_t done = first;
    if (vectors) {
        done = first + (last - first) / kCount * kCount;
        for (int64_t i = first + int64_t(threadIdx.x) * kCount; i < done; i += kOptimThreads * kCount)
            update(std::integral_constant<int, kCount>{}, i);
    }
    for (int64_t i = done + threadIdx.x; i < last; i += kOptimThreads) update(std::integral_constant<int, 1>{}, i);

    if (memory.ticket) {
        __syncthreads();  // all threads of this block have read their step
        if (threadIdx.x == 0) {
            __threadfence();
            if (atomicAdd(memory.ticket, 1u) == gridDim.x - 1) {  // and so have all other blocks
                __threadfence();
                for (int i = 0; i < list.count; ++i) *list.entries[i].step.array += 1;
                *memory.ticket = 0;
            }
        }
    }
}

template <class T, class S, template <class> class Rule, class Options>
void launch_lists(const std::vector<OptimArray>& arrays, const Options& options, const StepMemory& memory,
                  const OptimConfig& config, cudaStream_t stream) {
    constexpr int kPointers = Rule<accumulator_t<S>>::kPointers + !std::is_same_v<T, S>;
    for_each_list<kPointers>(arrays, config.chunk, [&](const OptimList<kPointers>& list, unsigned blocks) {
        gpu::launch<step_kernel<T, S, Rule>>(dim3(blocks), dim3(kOptimThreads), 0, stream, list, options, memory,
                                             config.chunk);
    });
}

template <template <class> class Rule, class Options>
void launch_step(const std::vector<OptimArray>& arrays, DType dtype, const Options& options, const StepMemory& memory,
                 const OptimConfig& config, cudaStream_t stream) {
    check(config);
    static_assert(sizeof(Options) + sizeof(StepMemory) + 40 <= kOptimOptions, "parameters of a kernel");
    if (arrays.empty()) return;
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        if (!arrays[0].master) launch_lists<T, T, Rule>(arrays, options, memory, config, stream);
        else if constexpr (sizeof(T) == 2) launch_lists<T, float, Rule>(arrays, options, memory, config, stream);
        else throw std::invalid_argument("master weights are of 16-bit params");
    });
}

}  // namespace

void sgd_step(const std::vector<OptimArray>& arrays, DType dtype, const SgdStep& step, const StepMemory& memory,
              const OptimConfig& config, cudaStream_t stream) {
    launch_step<Sgd>(arrays, dtype, step, memory, config, stream);
}

void adam_step(const std::vector<OptimArray>& arrays, DType dtype, const AdamStep& step, const StepMemory& memory,
               const OptimConfig& config, cudaStream_t stream) {
    AdamStep complete = step;
    complete.log_beta1 = std::log(step.beta1), complete.log_beta2 = std::log(step.beta2);
    launch_step<Adam>(arrays, dtype, complete, memory, config, stream);
}

void adagrad_step(const std::vector<OptimArray>& arrays, DType dtype, const AdagradStep& step, const StepMemory& memory,
                  const OptimConfig& config, cudaStream_t stream) {
    launch_step<Adagrad>(arrays, dtype, step, memory, config, stream);
}

void rmsprop_step(const std::vector<OptimArray>& arrays, DType dtype, const RmspropStep& step, const StepMemory& memory,
                  const OptimConfig& config, cudaStream_t stream) {
    launch_step<Rmsprop>(arrays, dtype, step, memory, config, stream);
}
