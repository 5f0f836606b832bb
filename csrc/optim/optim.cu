// Multi-tensor optimizer steps: a block finds the array its chunk belongs to, then streams through the chunk.
#include "../device/convert.cuh"
#include "../device/vector.cuh"
#include "optim.h"

namespace {

constexpr int kThreads = 256;

struct OptimList {
    OptimArray arrays[kOptimArrays];
    unsigned first_block[kOptimArrays];      // ascending; the blocks of array i start here
    int count;
};
static_assert(sizeof(OptimList) + sizeof(SgdStep) + 64 <= 4096, "parameters of a kernel");

// The last array whose first block is at or before this one. Arrays have at least one block each.
__device__ __forceinline__ int array_of(const OptimList& list, unsigned block) {
    int low = 0, high = list.count - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (list.first_block[middle] <= block) low = middle;
        else high = middle - 1;
    }
    return low;
}

// One element: p and m are updated. m is 0 without momentum, where it is not stored.
template <class Acc>
struct Sgd {
    Acc lr, momentum, keep, weight_decay;    // keep = 1 - dampening
    bool nesterov, maximize, first_step;

    __device__ __forceinline__ void operator()(Acc& p, Acc g, Acc& m) const {
        if (maximize) g = -g;
        if (weight_decay != 0) g += weight_decay * p;
        if (momentum != 0) {
            m = first_step ? g : momentum * m + keep * g;
            g = nesterov ? g + momentum * m : m;
        }
        p -= lr * g;
    }
};

__device__ __forceinline__ bool aligned16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

template <class T>
__global__ void __launch_bounds__(kThreads)
sgd_step_kernel(const __grid_constant__ OptimList list, const __grid_constant__ SgdStep step, int chunk) {
    using Acc = accumulator_t<T>;
    constexpr int kCount = 16 / sizeof(T);
    const int index = array_of(list, blockIdx.x);
    const OptimArray array = list.arrays[index];
    T* param = static_cast<T*>(array.param);                     // (size,)
    const T* grad = static_cast<const T*>(array.grad);           // (size,)
    T* buffer = static_cast<T*>(array.momentum);                 // (size,) or null
    const int64_t first = int64_t(blockIdx.x - list.first_block[index]) * chunk;
    const int64_t last = min(first + chunk, array.size);
    const Acc lr = step.lr_array ? Acc(*step.lr_array) : Acc(step.lr);
    const Sgd<Acc> update{lr, Acc(step.momentum), Acc(1 - step.dampening), Acc(step.weight_decay),
                          step.nesterov, step.maximize, step.first_step};
    const bool reads_buffer = buffer && !step.first_step;

    int64_t done = first;
    if (aligned16(param) && aligned16(grad) && aligned16(buffer)) {      // chunks are whole packs; null is aligned
        done = first + (last - first) / kCount * kCount;
        for (int64_t i = first + int64_t(threadIdx.x) * kCount; i < done; i += kThreads * kCount) {
            auto p = load_vector<kCount>(param + i);
            Vector<T, kCount> m{};
            const auto g = load_vector<kCount>(grad + i);
            if (reads_buffer) m = load_vector<kCount>(buffer + i);
#pragma unroll
            for (int j = 0; j < kCount; ++j) {
                Acc value = convert<Acc>(p[j]), momentum = convert<Acc>(m[j]);
                update(value, convert<Acc>(g[j]), momentum);
                p[j] = convert<T>(value), m[j] = convert<T>(momentum);
            }
            store_vector(param + i, p);
            if (buffer) store_vector(buffer + i, m);
        }
    }
    for (int64_t i = done + threadIdx.x; i < last; i += kThreads) {
        Acc value = convert<Acc>(param[i]), momentum = reads_buffer ? convert<Acc>(buffer[i]) : Acc(0);
        update(value, convert<Acc>(grad[i]), momentum);
        param[i] = convert<T>(value);
        if (buffer) buffer[i] = convert<T>(momentum);
    }
}

}  // namespace

void sgd_step(const std::vector<OptimArray>& arrays, DType dtype, const SgdStep& step, const OptimConfig& config, cudaStream_t stream) {
    check(config);
    constexpr int64_t kMaxBlocks = 1ll << 30;
    dispatch_floating(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        OptimList list;
        int64_t blocks = 0;
        list.count = 0;
        auto flush = [&] {
            if (list.count) gpu::launch<sgd_step_kernel<T>>(dim3(unsigned(blocks)), dim3(kThreads), 0, stream, list, step, config.chunk);
            list.count = 0, blocks = 0;
        };
        for (const OptimArray& array : arrays) {
            if (array.size == 0) continue;
            const int64_t mine = (array.size + config.chunk - 1) / config.chunk;
            if (list.count == kOptimArrays || blocks + mine > kMaxBlocks) flush();
            list.arrays[list.count] = array;
            list.first_block[list.count++] = unsigned(blocks);
            blocks += mine;
        }
        flush();
    });
}
